//! Which samples a round gets: those that late replicas have given back, then the next.

use muster_llm::train::order;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Where the dealing stands: the same on all ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deal {
    /// The first sample that was never dealt.
    cursor: u64,
    /// Those that came back, in order and apart.
    returned: Vec<Range<u64>>,
}

impl Deal {
    /// The first sample that was never dealt.
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

    /// What came back and was not dealt again.
    pub fn returned(&self) -> &[Range<u64>] {
        &self.returned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_goes_out_first() {
        let mut deal = Deal::default();
        assert_eq!(deal.take(8), [0..8]);
        deal.give_back([2..4, 6..8]);
        assert_eq!(deal.take(3), [2..4, 6..7]);
        assert_eq!((deal.returned(), deal.cursor()), (&[7..8][..], 8));
        assert_eq!(deal.take(4), [7..11]);
        assert_eq!((deal.returned().len(), deal.cursor()), (0, 11));
        deal.give_back([3..5]);
        assert_eq!(deal.take(5), [3..5, 11..14]);
    }
}
