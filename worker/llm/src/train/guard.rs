//! Decides whether a run has gone wrong, as a pure function of its recent steps: losses that are NaN or
//! infinite, or far above those before.
//!
//! "Far" is measured in median absolute deviations from the median of a window; unlike a mean and its
//! standard deviation, a spike moves neither. The response is PaLM's (Chowdhery et al. 2022, section 5.1):
//! roll back to a checkpoint before the spike and skip the samples around it, since such spikes come from
//! these data at these weights. The caller records the verdict as a decision and carries it out.

use super::StepReport;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// When to roll back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpikeGuard {
    /// Steps before the last that are considered.
    pub window: usize,
    /// Steps that are needed before a loss can be called a spike.
    pub history_min: usize,
    /// Standard deviations (estimated from the median absolute deviation) that a loss may be above the
    /// median; 0 disables the check.
    pub deviations: f64,
    /// What a loss may be above the median in any case, in nats: on a flat curve the deviation is near zero.
    pub slack: f64,
    /// Steps before the bad one that are skipped with it: one of them made the update that led to it.
    pub steps_before: u64,
}

impl Default for SpikeGuard {
    fn default() -> Self {
        Self { window: 64, history_min: 16, deviations: 8.0, slack: 0.5, steps_before: 1 }
    }
}

/// What the guard knows of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossPoint {
    /// The step, counted from 0.
    pub step: u64,
    /// Its mean loss.
    pub loss: f64,
    /// Norm of its gradient.
    pub gradient_norm: f64,
    /// The first number of its samples.
    pub from: u64,
    /// One past the last.
    pub to: u64,
}

impl LossPoint {
    /// A step that was made.
    #[must_use]
    pub fn of(report: &StepReport) -> Self {
        let (step, loss, gradient_norm) = (report.step, report.loss, report.gradient_norm);
        Self { loss, gradient_norm, ..Self::failed(step, &report.samples) }
    }

    /// A step that was not made, because its loss or gradient was NaN or infinite; `samples` are those that
    /// it would have used.
    #[must_use]
    pub fn failed(step: u64, samples: &[Range<u64>]) -> Self {
        let from = samples.first().map_or(0, |range| range.start);
        let to = samples.last().map_or(from, |range| range.end);
        Self { step, loss: f64::NAN, gradient_norm: f64::NAN, from, to }
    }
}

/// Why a run rolls back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GuardReason {
    /// The loss or the gradient's norm is NaN or infinite.
    NotFinite,
    /// The loss is above what the steps before allow.
    Spike {
        /// The loss.
        loss: f64,
        /// The most that was allowed.
        limit: f64,
    },
}

impl fmt::Display for GuardReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite => f.write_str("the loss or the gradient is not finite"),
            Self::Spike { loss, limit } => write!(f, "a loss of {loss:.4}, above {limit:.4}"),
        }
    }
}

/// The guard's decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GuardVerdict {
    /// Go on.
    Fine,
    /// Roll back, and skip samples.
    RollBack {
        /// The step of the checkpoint to go back to; `None`: the start.
        to: Option<u64>,
        /// The numbers of the samples to skip.
        skip: Range<u64>,
        /// The reason.
        reason: GuardReason,
    },
}

/// Converts a median absolute deviation to the standard deviation of a normal distribution.
const NORMAL: f64 = 1.4826;

impl SpikeGuard {
    /// Judges the last of `history` (in order of steps). `checkpoints` are the steps at which there is one.
    #[must_use]
    pub fn judge(&self, history: &[LossPoint], checkpoints: &[u64]) -> GuardVerdict {
        let Some((last, before)) = history.split_last() else { return GuardVerdict::Fine };
        let reason = if last.loss.is_finite() && last.gradient_norm.is_finite() {
            let before = &before[before.len().saturating_sub(self.window)..];
            match self.limit(before) {
                Some(limit) if last.loss > limit => GuardReason::Spike { loss: last.loss, limit },
                Some(_) | None => return GuardVerdict::Fine,
            }
        } else {
            GuardReason::NotFinite
        };
        let first = before
            .iter()
            .rev()
            .take_while(|point| point.step + self.steps_before >= last.step)
            .last()
            .unwrap_or(last);
        let to = checkpoints.iter().copied().filter(|step| *step <= first.step).max();
        GuardVerdict::RollBack { to, skip: first.from..last.to, reason }
    }

    /// The greatest loss that is not a spike; `None` while there are too few steps.
    fn limit(&self, before: &[LossPoint]) -> Option<f64> {
        let losses: Vec<f64> =
            before.iter().map(|point| point.loss).filter(|loss| loss.is_finite()).collect();
        if losses.len() < self.history_min.max(1) || self.deviations <= 0.0 {
            return None;
        }
        let middle = median(losses.clone());
        let spread = NORMAL * median(losses.iter().map(|loss| (loss - middle).abs()).collect());
        Some(middle + (self.deviations * spread).max(self.slack))
    }
}

/// The median of finite numbers, of which there must be one; of two in the middle the greater.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(losses: &[f64]) -> Vec<LossPoint> {
        let point = |(step, loss): (u64, &f64)| LossPoint {
            step,
            loss: *loss,
            gradient_norm: 1.0,
            from: step * 8,
            to: step * 8 + 8,
        };
        (0..).zip(losses).map(point).collect()
    }

    #[test]
    fn verdicts_of_recorded_curves() {
        let falling: Vec<f64> =
            (0..40).map(|step| 3.0 + 5.0 / (1.0 + f64::from(step)) + 0.1 * f64::from(step * 7 % 5)).collect();
        let with = |losses: &[f64], more: &[f64]| [losses, more].concat();
        let nan = |at: u64, to: Option<u64>| GuardVerdict::RollBack {
            to,
            skip: (at - 1) * 8..at * 8 + 8,
            reason: GuardReason::NotFinite,
        };
        let table = [
            ("nothing", vec![], GuardVerdict::Fine),
            ("a curve that falls", falling.clone(), GuardVerdict::Fine),
            ("noise", with(&falling, &[3.6]), GuardVerdict::Fine),
            ("no number", with(&falling, &[f64::NAN]), nan(40, Some(30))),
            ("infinite", with(&falling[..31], &[f64::INFINITY]), nan(31, Some(30))),
            ("right after a checkpoint", with(&falling[..30], &[f64::NAN]), nan(30, Some(20))),
            ("before the first checkpoint", with(&falling[..4], &[f64::NAN]), nan(4, None)),
            ("a rise while little is known", with(&falling[..4], &[90.0]), GuardVerdict::Fine),
            ("a flat curve that moves a little", with(&[2.0; 30], &[2.4]), GuardVerdict::Fine),
        ];
        for (name, losses, expected) in table {
            assert!(
                format!("{:?}", SpikeGuard::default().judge(&history(&losses), &[10, 20, 30]))
                    == format!("{expected:?}"),
                "{name}"
            );
        }
        let GuardVerdict::RollBack { to, skip, reason } =
            SpikeGuard::default().judge(&history(&with(&falling, &[9.0])), &[30, 40])
        else {
            panic!("a spike is seen")
        };
        assert_eq!((to, skip), (Some(30), 312..328));
        assert!(reason.to_string().starts_with("a loss of 9.0000, above "), "{reason}");
        let mut wild = history(&falling);
        wild[39].gradient_norm = f64::NAN;
        assert!(matches!(
            SpikeGuard::default().judge(&wild, &[]),
            GuardVerdict::RollBack { to: None, reason: GuardReason::NotFinite, .. }
        ));
    }

    #[test]
    fn a_spike_in_the_window_hides_no_other() {
        let mut losses = vec![2.0; 30];
        losses[20] = 50.0;
        losses.push(9.0);
        assert!(matches!(
            SpikeGuard::default().judge(&history(&losses), &[16]),
            GuardVerdict::RollBack { to: Some(16), .. }
        ));
    }
}
