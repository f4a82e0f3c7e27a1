//! Waiting for progress instead of a fixed time: a slow machine may take long, but a test without progress
//! fails.

use std::fmt::Debug;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// After this time without progress, [`wait_for`] panics.
pub const STALLED_MS: u64 = 60_000;
const POLL_INTERVAL_MS: u64 = 20;

/// Polls until `poll` returns a value. Its `Err` describes the progress so far: as long as that changes, the
/// wait goes on.
///
/// # Panics
/// If nothing has changed for [`STALLED_MS`].
pub fn wait_for<T, P: Debug + PartialEq>(what: &str, mut poll: impl FnMut() -> Result<T, P>) -> T {
    let mut last: Option<P> = None;
    let mut since = Instant::now();
    loop {
        let progress = match poll() {
            Ok(value) => return value,
            Err(progress) => progress,
        };
        if last.as_ref() != Some(&progress) {
            since = Instant::now();
            last = Some(progress);
        } else if since.elapsed() > Duration::from_millis(STALLED_MS) {
            panic!(
                "waiting for {what}: no progress for {} s; the last state was {last:?}",
                STALLED_MS / 1000
            );
        }
        sleep(Duration::from_millis(POLL_INTERVAL_MS));
    }
}
