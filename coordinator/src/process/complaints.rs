//! Complaints about what others send, as log lines: so many per moment and no more, so that garbage cannot
//! fill a disk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines per window.
const LINES_MAX: u32 = 20;
/// The window.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts the lines of one kind of complaint.
#[derive(Debug, Default)]
pub struct Complaints {
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    withheld: u64,
}

impl Complaints {
    /// Whether there may be another line now, and how many were withheld since the last one.
    pub fn next(&self) -> Option<u64> {
        self.next_at(Instant::now())
    }

    fn next_at(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let window = window.get_or_insert(Window { began: now, lines: 0, withheld: 0 });
        if now.duration_since(window.began) >= WINDOW {
            (window.began, window.lines) = (now, 0);
        }
        if window.lines >= LINES_MAX {
            window.withheld += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_told() {
        let complaints = Complaints::default();
        let start = Instant::now();
        for _ in 0..LINES_MAX {
            assert_eq!(complaints.next_at(start), Some(0));
        }
        assert_eq!(complaints.next_at(start), None);
        assert_eq!(complaints.next_at(start), None);
        assert_eq!(complaints.next_at(start + WINDOW), Some(2));
        assert_eq!(complaints.next_at(start + WINDOW), Some(0));
    }
}
