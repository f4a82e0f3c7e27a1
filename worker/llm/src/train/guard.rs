//! Whether a run has gone wrong, as a pure function of its recent steps: numbers that are none, and losses
//! far above those before.
//!
//! "Far" is counted in median absolute deviations from the median of a window (a spike moves neither, as it
//! would a mean and its sigma). The answer to a spike is that of PaLM (Chowdhery et al. 2022, section 5.1):
//! go back to a checkpoint before it, and skip the samples around it, since such spikes come of this data at
//! these weights. Whoever asks writes the verdict down as a decision and carries it out.

use super::StepReport;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// When to step in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guard {
    /// How many steps before the last are looked at.
    pub window: usize,
    /// How many there must be before a loss can be called a spike.
    pub history_min: usize,
    /// How many standard deviations (estimated from the median absolute deviation) above the median a loss
    /// may be; 0: any.
    pub deviations: f64,
    /// How much a loss may be above the median in any case, in nats: a flat curve deviates by nothing.
    pub slack: f64,
    /// How many steps before the bad one are skipped with it: the update that led to it is one of them.
    pub steps_before: u64,
}

impl Default for Guard {
    fn default() -> Self {
        Self { window: 64, history_min: 16, deviations: 8.0, slack: 0.5, steps_before: 1 }
    }
}

/// A step, as the guard sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Which, counted from 0.
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

impl Point {
    /// Of a step that was made.
    #[must_use]
    pub fn of(report: &StepReport) -> Self {
        let (step, loss, gradient_norm) = (report.step, report.loss, report.gradient_norm);
        Self { loss, gradient_norm, ..Self::failed(step, &report.samples) }
    }

    /// Of a step that was not made, since its loss or gradient was not finite; `samples` are those that it
    /// would have used.
    #[must_use]
    pub fn failed(step: u64, samples: &[Range<u64>]) -> Self {
        let from = samples.first().map_or(0, |range| range.start);
        let to = samples.last().map_or(from, |range| range.end);
        Self { step, loss: f64::NAN, gradient_norm: f64::NAN, from, to }
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// The loss or the gradient's norm is not finite.
    NotFinite,
    /// The loss is above what the steps before allow.
    Spike {
        /// The loss.
        loss: f64,
        /// The most that was allowed.
        limit: f64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite => f.write_str("the loss or the gradient is not finite"),
            Self::Spike { loss, limit } => write!(f, "a loss of {loss:.4}, above {limit:.4}"),
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// Go on.
    Fine,
    /// Go back, and leave samples out.
    RollBack {
        /// To the checkpoint of this step; `None`: to the start.
        to: Option<u64>,
        /// The numbers of the samples to skip.
        skip: Range<u64>,
        /// What is wrong.
        reason: Reason,
    },
}

/// Turns a median absolute deviation to the standard deviation of a normal distribution.
const NORMAL: f64 = 1.4826;

impl Guard {
    /// Judges the last of `history` (in order of steps). `checkpoints` are the steps at which there is one.
    #[must_use]
    pub fn judge(&self, history: &[Point], checkpoints: &[u64]) -> Verdict {
        let Some((last, before)) = history.split_last() else { return Verdict::Fine };
        let reason = if last.loss.is_finite() && last.gradient_norm.is_finite() {
            let before = &before[before.len().saturating_sub(self.window)..];
            match self.limit(before) {
                Some(limit) if last.loss > limit => Reason::Spike { loss: last.loss, limit },
                Some(_) | None => return Verdict::Fine,
            }
        } else {
            Reason::NotFinite
        };
        let first = before
            .iter()
            .rev()
            .take_while(|point| point.step + self.steps_before >= last.step)
            .last()
            .unwrap_or(last);
        let to = checkpoints.iter().copied().filter(|step| *step <= first.step).max();
        Verdict::RollBack { to, skip: first.from..last.to, reason }
    }

    /// The greatest loss that is no spike; `None` while too little is known.
    fn limit(&self, before: &[Point]) -> Option<f64> {
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

/// The middle of numbers that are not empty and all finite; of two in the middle the greater.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(losses: &[f64]) -> Vec<Point> {
        let point = |(step, loss): (u64, &f64)| Point {
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
        let nan = |at: u64, to: Option<u64>| Verdict::RollBack {
            to,
            skip: (at - 1) * 8..at * 8 + 8,
            reason: Reason::NotFinite,
        };
        let table = [
            ("nothing", vec![], Verdict::Fine),
            ("a curve that falls", falling.clone(), Verdict::Fine),
            ("noise", with(&falling, &[3.6]), Verdict::Fine),
            ("no number", with(&falling, &[f64::NAN]), nan(40, Some(30))),
            ("infinite", with(&falling[..31], &[f64::INFINITY]), nan(31, Some(30))),
            ("right after a checkpoint", with(&falling[..30], &[f64::NAN]), nan(30, Some(20))),
            ("before the first checkpoint", with(&falling[..4], &[f64::NAN]), nan(4, None)),
            ("a rise while little is known", with(&falling[..4], &[90.0]), Verdict::Fine),
            ("a flat curve that moves a little", with(&[2.0; 30], &[2.4]), Verdict::Fine),
        ];
        for (name, losses, expected) in table {
            assert!(
                format!("{:?}", Guard::default().judge(&history(&losses), &[10, 20, 30]))
                    == format!("{expected:?}"),
                "{name}"
            );
        }
        let Verdict::RollBack { to, skip, reason } =
            Guard::default().judge(&history(&with(&falling, &[9.0])), &[30, 40])
        else {
            panic!("a spike is seen")
        };
        assert_eq!((to, skip), (Some(30), 312..328));
        assert!(reason.to_string().starts_with("a loss of 9.0000, above "), "{reason}");
        let mut wild = history(&falling);
        wild[39].gradient_norm = f64::NAN;
        assert!(matches!(
            Guard::default().judge(&wild, &[]),
            Verdict::RollBack { to: None, reason: Reason::NotFinite, .. }
        ));
    }

    #[test]
    fn a_spike_in_the_window_hides_no_other() {
        let mut losses = vec![2.0; 30];
        losses[20] = 50.0;
        losses.push(9.0);
        assert!(matches!(
            Guard::default().judge(&history(&losses), &[16]),
            Verdict::RollBack { to: Some(16), .. }
        ));
    }
}
