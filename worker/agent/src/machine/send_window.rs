//! Reliable delivery over the lossy bus: numbered items, sent in a window, and again until acknowledged.
//!
//! This is Go-back-N: the leader takes items in order only, so after a loss everything is sent again from the
//! oldest unacknowledged item.

use std::collections::VecDeque;

/// Items in one message have at most this many bytes, so that it stays under `BUS_MESSAGE_BYTES_MAX`.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// One message, which becomes one command, has at most this many items.
const BATCH_ITEMS_MAX: usize = 1024;
/// At most this many items are in flight.
const WINDOW_ITEMS: u64 = 4096;
/// After this time without an acknowledgement, everything is sent again; doubles each time.
const RESEND_MS: u64 = 500;
const RESEND_MS_MAX: u64 = 2_000;

#[derive(Debug, PartialEq, Eq)]
pub struct WindowBatch<T> {
    pub first_seq: u64,
    pub oldest_unacked: u64,
    pub items: Vec<T>,
}

#[derive(Debug)]
pub struct SendWindow<T> {
    /// The number of the oldest unacknowledged item; if there is none, of the next.
    first: u64,
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// Everything below was sent since the last rewind.
    next_unsent: u64,
    resend_at: u64,
    resend_ms: u64,
}

impl<T: Clone> SendWindow<T> {
    /// Empty; the first number is 1.
    pub fn new() -> SendWindow<T> {
        SendWindow {
            first: 1,
            items: VecDeque::new(),
            bytes: 0,
            next_unsent: 1,
            resend_at: 0,
            resend_ms: RESEND_MS,
        }
    }

    /// Adds an item of about `bytes` bytes, and returns its number.
    pub fn push(&mut self, item: T, bytes: usize) -> u64 {
        self.items.push_back((item, bytes));
        self.bytes += bytes;
        self.first + self.items.len() as u64 - 1
    }

    /// Unacknowledged items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes of unacknowledged items.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_acked(&self, seq: u64) -> bool {
        seq < self.first
    }

    /// Takes an acknowledgement up to `last`, and returns the items that it frees.
    pub fn ack(&mut self, now_ms: u64, last: u64) -> Vec<T> {
        let end = self.first + self.items.len() as u64;
        let freed = last.saturating_add(1).min(end).saturating_sub(self.first);
        if freed == 0 {
            return Vec::new();
        }
        self.first += freed;
        self.next_unsent = self.next_unsent.max(self.first);
        self.resend_ms = RESEND_MS;
        self.resend_at = now_ms + RESEND_MS;
        let items: Vec<_> = self.items.drain(..usize::try_from(freed).unwrap_or(usize::MAX)).collect();
        self.bytes -= items.iter().map(|(_, bytes)| bytes).sum::<usize>();
        items.into_iter().map(|(item, _)| item).collect()
    }

    /// Sends everything again: there is a new leader, or messages may be lost.
    pub fn rewind(&mut self) {
        self.next_unsent = self.first;
        self.resend_ms = RESEND_MS;
    }

    /// The next message to send now.
    pub fn next(&mut self, now_ms: u64) -> Option<WindowBatch<T>> {
        let end = self.first + self.items.len() as u64;
        let in_flight = self.next_unsent > self.first;
        if in_flight && now_ms >= self.resend_at {
            self.next_unsent = self.first;
            self.resend_ms = (self.resend_ms * 2).min(RESEND_MS_MAX);
        }
        let window_end = end.min(self.first + WINDOW_ITEMS);
        if self.next_unsent >= window_end {
            return None;
        }
        if self.next_unsent == self.first {
            self.resend_at = now_ms + self.resend_ms;
        }
        let skip = (self.next_unsent - self.first) as usize;
        let take = BATCH_ITEMS_MAX.min((window_end - self.next_unsent) as usize);
        let mut bytes = 0;
        let mut batch =
            WindowBatch { first_seq: self.next_unsent, oldest_unacked: self.first, items: Vec::new() };
        for (item, item_bytes) in self.items.iter().skip(skip).take(take) {
            bytes += item_bytes;
            if bytes > BATCH_BYTES_MAX && !batch.items.is_empty() {
                break;
            }
            batch.items.push(item.clone());
        }
        self.next_unsent += batch.items.len() as u64;
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(window: &mut SendWindow<u32>, now_ms: u64) -> Vec<(u64, u64, usize)> {
        std::iter::from_fn(|| window.next(now_ms))
            .map(|b| (b.first_seq, b.oldest_unacked, b.items.len()))
            .collect()
    }

    #[test]
    fn items_are_sent_once_until_time_passes() {
        let mut window = SendWindow::new();
        assert_eq!([window.push(7, 1), window.push(8, 1)], [1, 2]);
        assert_eq!(sent(&mut window, 0), [(1, 1, 2)]);
        assert_eq!(sent(&mut window, 499), []);
        window.push(9, 1);
        assert_eq!(sent(&mut window, 499), [(3, 1, 1)]);
        assert_eq!(sent(&mut window, 500), [(1, 1, 3)]);
        assert_eq!(sent(&mut window, 1_499), [], "the pause doubles");
        assert_eq!(sent(&mut window, 1_500), [(1, 1, 3)]);
        assert_eq!(window.ack(1_500, 2), [7, 8]);
        assert_eq!(window.ack(1_500, 1), [0; 0], "an old acknowledgement frees nothing");
        assert_eq!(sent(&mut window, 1_999), []);
        assert_eq!(sent(&mut window, 2_000), [(3, 3, 1)]);
        window.rewind();
        assert_eq!(sent(&mut window, 2_001), [(3, 3, 1)]);
        assert_eq!(window.ack(2_002, u64::MAX), [9], "an acknowledgement beyond the newest item");
        assert_eq!((window.len(), window.bytes(), window.push(1, 1)), (0, 0, 4));
    }

    #[test]
    fn the_window_bounds_what_is_in_flight() {
        let mut window = SendWindow::new();
        for n in 0..10_000 {
            window.push(n, 1);
        }
        assert_eq!(sent(&mut window, 0), [(1, 1, 1024), (1025, 1, 1024), (2049, 1, 1024), (3073, 1, 1024)]);
        window.ack(1, 1024);
        assert_eq!(sent(&mut window, 1), [(4097, 1025, 1024)]);
        let mut large = SendWindow::new();
        for n in 0..3 {
            large.push(n, BATCH_BYTES_MAX);
        }
        assert_eq!(sent(&mut large, 0), [(1, 1, 1), (2, 1, 1), (3, 1, 1)]);
    }
}
