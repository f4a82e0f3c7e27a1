//! Which samples a round gets: those that late replicas have returned, then the next ones.

use muster_llm::train::order;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Which samples were handed out; equal on all ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleAllocator {
    /// The first sample that was never handed out.
    cursor: u64,
    /// The returned samples: sorted, disjoint ranges.
    returned: Vec<Range<u64>>,
}

impl SampleAllocator {
    /// The first sample that was never handed out.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Takes `count` samples.
    pub fn take(&mut self, count: u64) -> Vec<Range<u64>> {
        let have: u64 = self.returned.iter().map(|range| range.end - range.start).sum();
        let old = count.min(have);
        let mut taken = order::part(&self.returned, 0, old);
        self.returned = order::part(&self.returned, old, have - old);
        if count > old {
            let fresh = self.cursor..self.cursor + (count - old);
            self.cursor = fresh.end;
            order::skip(&mut taken, fresh);
        }
        taken
    }

    /// Takes samples back.
    pub fn give_back(&mut self, samples: impl IntoIterator<Item = Range<u64>>) {
        for range in samples {
            order::skip(&mut self.returned, range);
        }
    }

    /// Never hands out these samples, whether they were returned or come next.
    pub fn leave_out(&mut self, samples: impl IntoIterator<Item = Range<u64>>) {
        for gone in samples {
            let returned = std::mem::take(&mut self.returned);
            let cut = |range: Range<u64>| {
                [range.start..range.end.min(gone.start), range.start.max(gone.end)..range.end]
            };
            self.returned = returned.into_iter().flat_map(cut).filter(|range| !range.is_empty()).collect();
            if gone.end > self.cursor {
                order::skip(&mut self.returned, self.cursor..gone.start.max(self.cursor));
                self.cursor = gone.end;
            }
        }
    }

    /// The samples that were returned and not handed out again.
    pub fn returned(&self) -> &[Range<u64>] {
        &self.returned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_goes_out_first() {
        let mut allocator = SampleAllocator::default();
        assert_eq!(allocator.take(8), [0..8]);
        allocator.give_back([2..4, 6..8]);
        assert_eq!(allocator.take(3), [2..4, 6..7]);
        assert_eq!((allocator.returned(), allocator.cursor()), (&[7..8][..], 8));
        assert_eq!(allocator.take(4), [7..11]);
        assert_eq!((allocator.returned().len(), allocator.cursor()), (0, 11));
        allocator.give_back([3..5]);
        assert_eq!(allocator.take(5), [3..5, 11..14]);
    }

    #[test]
    fn what_is_left_out_is_not_dealt_again() {
        let mut allocator = SampleAllocator::default();
        allocator.take(10);
        allocator.give_back([2..8]);
        let before = allocator.clone();
        let rolled_back = allocator.take(9);
        assert_eq!(rolled_back, [2..8, 10..13]);
        // An allocator that restarts from the checkpoint before, and reads what was left out, equals one that
        // did not restart.
        let mut again = before.clone();
        again.leave_out(rolled_back);
        assert_eq!(again, allocator);
        let mut allocator = before;
        allocator.leave_out([0..1, 4..6, 12..13]);
        assert_eq!((allocator.take(6), allocator.cursor()), (vec![2..4, 6..8, 10..12], 13));
        allocator.leave_out([3..9]);
        assert_eq!(allocator.take(1), [13..14]);
    }
}
