//! Limits log lines that could come in floods, and counts those that it withholds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Admits a number of lines per window. The window begins with its first line.
#[derive(Debug)]
pub struct LogThrottle {
    lines_max: u32,
    window: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    lines: u32,
    withheld: u64,
}

impl LogThrottle {
    /// Admits `lines_max` lines per `window`.
    #[must_use]
    pub fn new(lines_max: u32, window: Duration) -> LogThrottle {
        LogThrottle { lines_max, window, state: Mutex::default() }
    }

    /// Whether to log now, and if so, how many lines were withheld since the last one.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| now.duration_since(began) >= self.window) {
            (state.began, state.lines) = (Some(now), 0);
        }
        if state.lines >= self.lines_max {
            state.withheld += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.withheld))
    }

    /// The problem has passed: the next line is logged at once.
    pub fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_logged() {
        let window = Duration::from_secs(10);
        let throttle = LogThrottle::new(20, window);
        let start = Instant::now();
        for _ in 0..20 {
            assert_eq!(throttle.admit_at(start), Some(0));
        }
        assert_eq!(throttle.admit_at(start), None);
        assert_eq!(throttle.admit_at(start), None);
        assert_eq!(throttle.admit_at(start + window), Some(2));
        assert_eq!(throttle.admit_at(start + window), Some(0));
    }
}
