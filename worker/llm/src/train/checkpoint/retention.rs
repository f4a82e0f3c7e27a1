//! Which checkpoints are kept: a pure function of their steps and losses, so that every replay agrees.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A checkpoint, as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// Steps done.
    pub step: u64,
    /// Its loss on held-out text, or the training loss; NaN if unknown.
    pub loss: f64,
}

/// The rules. A checkpoint is kept if any rule keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How many of the newest are kept; at least one always is.
    pub last: usize,
    /// Keeps checkpoints whose step is a multiple of this; 0 disables the rule.
    pub every: u64,
    /// How many with the least loss are kept.
    pub best: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { last: 2, every: 0, best: 1 }
    }
}

impl Retention {
    /// The steps of the checkpoints of `all` that are kept.
    #[must_use]
    pub fn kept(&self, all: &[CheckpointInfo]) -> BTreeSet<u64> {
        let steps: BTreeSet<u64> = all.iter().map(|one| one.step).collect();
        let mut kept: BTreeSet<u64> = steps.iter().rev().take(self.last.max(1)).copied().collect();
        if self.every > 0 {
            kept.extend(steps.iter().filter(|step| step.is_multiple_of(self.every)));
        }
        let mut by_loss: Vec<&CheckpointInfo> = all.iter().filter(|one| !one.loss.is_nan()).collect();
        // Of equal ones the newer is preferred: it has seen more.
        by_loss.sort_by(|a, b| a.loss.total_cmp(&b.loss).then(b.step.cmp(&a.step)));
        kept.extend(by_loss.iter().take(self.best).map(|one| one.step));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_keeps_what_it_names() {
        let losses = [(10, 5.0), (20, 3.0), (30, f64::NAN), (40, 2.0), (50, 4.0), (60, 2.0), (70, 9.0)];
        let all = losses.map(|(step, loss)| CheckpointInfo { step, loss });
        let table: [(usize, u64, usize, &[u64]); 6] = [
            (1, 0, 0, &[70]),
            (0, 0, 0, &[70]),
            (2, 0, 1, &[60, 70]),
            (1, 20, 0, &[20, 40, 60, 70]),
            (1, 0, 3, &[20, 40, 60, 70]),
            (99, 0, 0, &[10, 20, 30, 40, 50, 60, 70]),
        ];
        for (last, every, best, expected) in table {
            let rules = Retention { last, every, best };
            assert_eq!(rules.kept(&all).into_iter().collect::<Vec<_>>(), expected, "{rules:?}");
        }
        assert!(Retention::default().kept(&[]).is_empty());
    }
}
