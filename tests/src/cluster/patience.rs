//! Waiting for progress, not for the clock: a slow machine may take its time, and one that stands still
//! fails.

use std::fmt::Debug;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Nothing new for so long: it stands still.
pub const STALLED_MS: u64 = 60_000;
/// Between two looks.
const LOOK_INTERVAL_MS: u64 = 20;

/// Looks until `look` gives a value, and returns it. An `Err` says how far things are: as long as that
/// changes, there is progress.
///
/// # Panics
/// When nothing has changed for [`STALLED_MS`].
pub fn wait_for<T, P: Debug + PartialEq>(what: &str, mut look: impl FnMut() -> Result<T, P>) -> T {
    let mut last: Option<P> = None;
    let mut since = Instant::now();
    loop {
        let progress = match look() {
            Ok(value) => return value,
            Err(progress) => progress,
        };
        if last.as_ref() != Some(&progress) {
            since = Instant::now();
            last = Some(progress);
        } else if since.elapsed() > Duration::from_millis(STALLED_MS) {
            panic!("waiting for {what}: no progress for {} s; the last seen was {last:?}", STALLED_MS / 1000);
        }
        sleep(Duration::from_millis(LOOK_INTERVAL_MS));
    }
}
