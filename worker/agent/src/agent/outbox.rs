//! What is said until it is acknowledged: numbered items, a window of them under way, and the oldest again
//! when no answer comes.
//!
//! Go-back-N: the leader takes items in order only, so after a loss everything from the oldest is said again.

use std::collections::VecDeque;

/// Bytes of items in one message at most; with what surrounds them it stays under `BUS_MESSAGE_BYTES_MAX`.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Items in one message at most: they become one command.
const BATCH_ITEMS_MAX: usize = 1024;
/// Items under way at most, before an acknowledgement opens the window again.
const WINDOW_ITEMS: u64 = 4096;
/// Without an acknowledgement for so long, the oldest items are said again; doubles each time.
const RESEND_MS: u64 = 500;
/// At most.
const RESEND_MS_MAX: u64 = 2_000;

/// A message's worth of items.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch<T> {
    /// The number of the first.
    pub first_seq: u64,
    /// The oldest number that is not acknowledged.
    pub oldest_unacked: u64,
    /// In order.
    pub items: Vec<T>,
}

/// Numbered items that wait for their acknowledgement.
#[derive(Debug)]
pub struct Outbox<T> {
    /// The number of the front item; with none, of the next.
    first: u64,
    items: VecDeque<(T, usize)>,
    bytes: usize,
    /// Everything below was said since the last rewind.
    next_unsaid: u64,
    resend_at: u64,
    resend_ms: u64,
}

impl<T: Clone> Outbox<T> {
    /// Nothing said yet; the first number is 1.
    pub fn new() -> Outbox<T> {
        Outbox {
            first: 1,
            items: VecDeque::new(),
            bytes: 0,
            next_unsaid: 1,
            resend_at: 0,
            resend_ms: RESEND_MS,
        }
    }

    /// Adds an item of about so many bytes, and gives its number.
    pub fn push(&mut self, item: T, bytes: usize) -> u64 {
        self.items.push_back((item, bytes));
        self.bytes += bytes;
        self.first + self.items.len() as u64 - 1
    }

    /// Items that are not acknowledged.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this number is acknowledged.
    pub fn is_acked(&self, seq: u64) -> bool {
        seq < self.first
    }

    /// Takes an acknowledgement; gives the items that it frees.
    pub fn ack(&mut self, now_ms: u64, last: u64) -> Vec<T> {
        let end = self.first + self.items.len() as u64;
        let freed = last.saturating_add(1).min(end).saturating_sub(self.first);
        if freed == 0 {
            return Vec::new();
        }
        self.first += freed;
        self.next_unsaid = self.next_unsaid.max(self.first);
        self.resend_ms = RESEND_MS;
        self.resend_at = now_ms + RESEND_MS;
        let items: Vec<_> = self.items.drain(..usize::try_from(freed).unwrap_or(usize::MAX)).collect();
        self.bytes -= items.iter().map(|(_, bytes)| bytes).sum::<usize>();
        items.into_iter().map(|(item, _)| item).collect()
    }

    /// There is a new listener, or the last messages may be lost: all is said again, from the oldest.
    pub fn rewind(&mut self) {
        self.next_unsaid = self.first;
        self.resend_ms = RESEND_MS;
    }

    /// The next message to send now, if any.
    pub fn next(&mut self, now_ms: u64) -> Option<Batch<T>> {
        let end = self.first + self.items.len() as u64;
        let under_way = self.next_unsaid > self.first;
        if under_way && now_ms >= self.resend_at {
            self.next_unsaid = self.first;
            self.resend_ms = (self.resend_ms * 2).min(RESEND_MS_MAX);
        }
        let window_end = end.min(self.first + WINDOW_ITEMS);
        if self.next_unsaid >= window_end {
            return None;
        }
        if self.next_unsaid == self.first {
            self.resend_at = now_ms + self.resend_ms;
        }
        let skip = (self.next_unsaid - self.first) as usize;
        let take = BATCH_ITEMS_MAX.min((window_end - self.next_unsaid) as usize);
        let mut bytes = 0;
        let mut batch = Batch { first_seq: self.next_unsaid, oldest_unacked: self.first, items: Vec::new() };
        for (item, item_bytes) in self.items.iter().skip(skip).take(take) {
            bytes += item_bytes;
            if bytes > BATCH_BYTES_MAX && !batch.items.is_empty() {
                break;
            }
            batch.items.push(item.clone());
        }
        self.next_unsaid += batch.items.len() as u64;
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(outbox: &mut Outbox<u32>, now_ms: u64) -> Vec<(u64, u64, usize)> {
        std::iter::from_fn(|| outbox.next(now_ms))
            .map(|b| (b.first_seq, b.oldest_unacked, b.items.len()))
            .collect()
    }

    #[test]
    fn items_are_said_once_until_time_passes() {
        let mut outbox = Outbox::new();
        assert_eq!([outbox.push(7, 1), outbox.push(8, 1)], [1, 2]);
        assert_eq!(said(&mut outbox, 0), [(1, 1, 2)]);
        assert_eq!(said(&mut outbox, 499), []);
        outbox.push(9, 1);
        assert_eq!(said(&mut outbox, 499), [(3, 1, 1)]);
        assert_eq!(said(&mut outbox, 500), [(1, 1, 3)]);
        assert_eq!(said(&mut outbox, 1_499), [], "the pause doubles");
        assert_eq!(said(&mut outbox, 1_500), [(1, 1, 3)]);
        assert_eq!(outbox.ack(1_500, 2), [7, 8]);
        assert_eq!(outbox.ack(1_500, 1), [0; 0], "an old acknowledgement frees nothing");
        assert_eq!(said(&mut outbox, 1_999), []);
        assert_eq!(said(&mut outbox, 2_000), [(3, 3, 1)]);
        outbox.rewind();
        assert_eq!(said(&mut outbox, 2_001), [(3, 3, 1)]);
        assert_eq!(outbox.ack(2_002, u64::MAX), [9], "an acknowledgement of more than there is");
        assert_eq!((outbox.len(), outbox.bytes(), outbox.push(1, 1)), (0, 0, 4));
    }

    #[test]
    fn a_window_bounds_what_is_under_way() {
        let mut outbox = Outbox::new();
        for n in 0..10_000 {
            outbox.push(n, 1);
        }
        assert_eq!(said(&mut outbox, 0), [(1, 1, 1024), (1025, 1, 1024), (2049, 1, 1024), (3073, 1, 1024)]);
        outbox.ack(1, 1024);
        assert_eq!(said(&mut outbox, 1), [(4097, 1025, 1024)]);
        let mut large = Outbox::new();
        for n in 0..3 {
            large.push(n, BATCH_BYTES_MAX);
        }
        assert_eq!(said(&mut large, 0), [(1, 1, 1), (2, 1, 1), (3, 1, 1)]);
    }
}
