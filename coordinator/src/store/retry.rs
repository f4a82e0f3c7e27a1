//! Waits shortly for a resource that ending threads or an ending process are about to release.

use std::thread;
use std::time::Duration;

const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Retries while a resource is held, for half a second in all, and then returns the last result.
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
