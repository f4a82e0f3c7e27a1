//! Log lines that could come in floods: the first at once, then one in a while, with the number of those left
//! out.

use std::time::{Duration, Instant};

/// Between two lines about the same thing.
const PAUSE: Duration = Duration::from_secs(30);

/// Decides when to log.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// Whether to log now, and if so, how many lines were left out since the last.
    pub fn admit(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.left_out))
    }

    /// Whatever it was has passed: the next is news again.
    pub fn forget(&mut self) {
        *self = Seldom::default();
    }
}
