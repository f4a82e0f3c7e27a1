//! Which sequences a step reads: a pure function of the seed and the step.
//!
//! The tokens are cut into windows. Each pass over them takes every window once, in an order of its own; there is no
//! state, so a run can start at any step, with any number of ranks.

/// The order of one run.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    seed: u64,
    windows: u64,
    window: u64,
}

/// Rounds of the permutation. Four are enough for an order that looks drawn.
const ROUNDS: u64 = 4;

impl Batches {
    /// Windows of `context` tokens and the one that follows; `None` when there are too few tokens for one.
    #[must_use]
    pub fn new(seed: u64, tokens: u64, context: usize) -> Option<Self> {
        let window = context as u64;
        let windows = tokens.saturating_sub(1).checked_div(window)?;
        (windows > 0).then_some(Self { seed, windows, window })
    }

    /// How many windows one pass has.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// Position of the first token of the run's `number`th sequence.
    #[must_use]
    pub fn start(&self, number: u64) -> u64 {
        let (pass, place) = (number / self.windows, number % self.windows);
        self.window * self.permuted(pass, place)
    }

    /// A permutation of the windows by a Feistel network, walked until it falls inside.
    fn permuted(&self, pass: u64, place: u64) -> u64 {
        let half = u64::BITS.saturating_sub((self.windows - 1).leading_zeros()).div_ceil(2).max(1);
        let mask = (1 << half) - 1;
        let mut value = place;
        loop {
            let (mut left, mut right) = (value >> half, value & mask);
            for round in 0..ROUNDS {
                let key = mix(mix(mix(self.seed) ^ pass) ^ round);
                (left, right) = (right, left ^ (mix(key ^ right) & mask));
            }
            value = left << half | right;
            // A permutation's cycle comes back to where it began, which is inside, so this ends.
            if value < self.windows {
                return value;
            }
        }
    }
}

/// A number that looks unlike its origin (splitmix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_pass_takes_each_window_once_in_its_own_order() {
        for tokens in [9u64, 17, 18, 100, 1000, 4097] {
            let batches = Batches::new(3, tokens, 8).expect("has windows");
            let windows = batches.windows();
            let pass = |pass: u64| (0..windows).map(|i| batches.start(pass * windows + i)).collect::<Vec<_>>();
            let (first, second) = (pass(0), pass(1));
            let every: BTreeSet<_> = (0..windows).map(|window| window * 8).collect();
            assert_eq!(first.iter().copied().collect::<BTreeSet<_>>(), every);
            assert_eq!(second.iter().copied().collect::<BTreeSet<_>>(), every);
            assert!(every.iter().all(|start| start + 8 < tokens), "the window's last target is there");
            if windows > 20 {
                assert_ne!(first, second);
                assert!(!first.is_sorted());
                let other = Batches::new(4, tokens, 8).expect("has windows");
                assert_ne!(first, (0..windows).map(|i| other.start(i)).collect::<Vec<_>>());
            }
        }
        assert!(Batches::new(0, 8, 8).is_none());
    }
}
