//! A short wait for what is about to be given back: by threads that are ending, or by a process that is.

use std::thread;
use std::time::Duration;

const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Tries again while something is held, for half a second in all; then its last answer counts.
pub fn until_free<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if is_held(&error) => thread::sleep(PAUSE),
            result => return result,
        }
    }
    attempt()
}
