//! Whether a round counts: a pure function of its replicas' results and of the losses before.
//!
//! A replica with a loss, gradient or delta that is NaN or infinite is refused, and the round continues
//! without it. A round with too few other replicas, or whose mean loss is a spike, is rolled back. Nothing
//! here depends on which rank held which replica.

use super::messages::ReplicaResult;
use crate::train::training_log::HISTORY_STEPS;
use muster_llm::train::guard::{GuardReason, LossPoint};
use muster_llm::train::{GuardVerdict, SpikeGuard};
use std::collections::BTreeMap;
use std::ops::Range;

/// The most replicas that a reason names.
const NAMED: usize = 3;

/// What is to be done with a round.
#[derive(Debug, PartialEq)]
pub enum RoundDecision {
    /// All but the refused are merged.
    Merge {
        /// Who is refused, in order.
        refused: Vec<u32>,
        why: String,
        /// The mean loss of the others, of each step.
        points: Vec<LossPoint>,
    },
    /// Nothing is merged.
    RollBack { why: String },
}

/// The history of the rounds before.
#[derive(Debug, Default)]
pub struct RoundPolicy {
    history: Vec<LossPoint>,
    /// Rounds that were rolled back or refused a replica.
    pub times: u64,
}

impl RoundPolicy {
    /// A policy that continues after these steps and `times` bad rounds.
    pub fn after(history: Vec<LossPoint>, times: u64) -> RoundPolicy {
        RoundPolicy { history, times }
    }

    /// The last steps that were merged.
    pub fn history(&self) -> &[LossPoint] {
        &self.history
    }

    /// Remembers the steps of a merged round.
    pub fn remember(&mut self, points: Vec<LossPoint>) {
        self.history.extend(points);
        self.history.drain(..self.history.len().saturating_sub(HISTORY_STEPS));
    }

    /// Judges the round of `steps`, which needs at least `least` replicas that can be merged.
    pub fn decide(
        &self,
        guard: &SpikeGuard,
        learnt: &BTreeMap<u32, ReplicaResult>,
        least: usize,
        steps: Range<u64>,
    ) -> RoundDecision {
        let (mut refused, mut reasons, mut merged) = (Vec::new(), Vec::new(), Vec::new());
        for (replica, learnt) in learnt {
            match learnt {
                ReplicaResult::Delta { losses, .. } => merged.push(losses),
                ReplicaResult::Failed(why) => {
                    refused.push(*replica);
                    reasons.push(format!("replica {replica}: {why}"));
                }
            }
        }
        let more = reasons.len().saturating_sub(NAMED);
        reasons.truncate(NAMED);
        let why = format!(
            "{}{}",
            reasons.join("; "),
            if more > 0 { format!("; and {more} more") } else { String::new() }
        );
        if merged.len() < least.max(1) {
            return RoundDecision::RollBack {
                why: format!("{} replicas may be merged where {least} must: {why}", merged.len()),
            };
        }
        let mean = |place: usize| {
            merged.iter().filter_map(|losses| losses.get(place)).sum::<f64>() / merged.len() as f64
        };
        let point = |step: u64, loss: f64| LossPoint { step, loss, gradient_norm: 0.0, from: 0, to: 0 };
        let points: Vec<LossPoint> =
            steps.clone().zip(0..).map(|(step, place)| point(step, mean(place))).collect();
        let whole = points.iter().map(|point| point.loss).sum::<f64>() / points.len().max(1) as f64;
        let judged: Vec<LossPoint> = self.history.iter().copied().chain([point(steps.end, whole)]).collect();
        match guard.judge(&judged, &[]) {
            GuardVerdict::Fine => RoundDecision::Merge { refused, why, points },
            GuardVerdict::RollBack {
                reason: reason @ (GuardReason::NotFinite | GuardReason::Spike { .. }),
                ..
            } => RoundDecision::RollBack { why: format!("the round has {reason}") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_llm::diloco::Int8Delta;
    use muster_protocol::ids::Digest;

    fn delta(losses: &[f64]) -> ReplicaResult {
        ReplicaResult::Delta {
            state: Digest::default(),
            losses: losses.to_vec(),
            delta: Int8Delta::quantise(&[0.0]).unwrap(),
        }
    }

    fn wrong() -> ReplicaResult {
        ReplicaResult::Failed("the loss is NaN".to_owned())
    }

    fn decide(policy: &RoundPolicy, learnt: Vec<ReplicaResult>, least: usize) -> RoundDecision {
        policy.decide(&SpikeGuard::default(), &(0..).zip(learnt).collect(), least, 40..42)
    }

    #[test]
    fn replicas_without_numbers_are_refused_while_enough_are_left() {
        let fresh = RoundPolicy::default();
        let RoundDecision::Merge { refused, why, points } =
            decide(&fresh, vec![delta(&[3.0, 2.0]), wrong(), delta(&[5.0, 4.0])], 2)
        else {
            panic!("two are enough")
        };
        assert_eq!((refused, why.as_str()), (vec![1], "replica 1: the loss is NaN"));
        assert_eq!(
            points.iter().map(|point| (point.step, point.loss)).collect::<Vec<_>>(),
            [(40, 4.0), (41, 3.0)]
        );
        for (learnt, least) in
            [(vec![delta(&[3.0, 2.0]), wrong()], 2), (vec![wrong(), wrong()], 1), (Vec::new(), 0)]
        {
            assert!(matches!(decide(&fresh, learnt, least), RoundDecision::RollBack { .. }));
        }
        let all = decide(&fresh, (0..9).map(|_| wrong()).collect(), 1);
        let RoundDecision::RollBack { why } = all else { panic!("none is left") };
        assert!(
            why.starts_with("0 replicas may be merged where 1 must: replica 0: ")
                && why.ends_with("; and 6 more"),
            "{why}"
        );
    }

    #[test]
    fn a_round_that_is_a_spike_is_rolled_back_once_something_is_known() {
        let mut known = RoundPolicy::default();
        let spike = || vec![delta(&[9.0, 2.0]), delta(&[9.0, 2.0])];
        assert!(matches!(decide(&known, spike(), 1), RoundDecision::Merge { .. }), "nothing is known yet");
        for round in 0..40 {
            let points = (0..2)
                .map(|step| LossPoint {
                    step: round * 2 + step,
                    loss: 2.0,
                    gradient_norm: 0.0,
                    from: 0,
                    to: 0,
                })
                .collect();
            known.remember(points);
        }
        assert_eq!(
            (known.history().len(), known.history()[0].step),
            (HISTORY_STEPS, 80 - HISTORY_STEPS as u64)
        );
        assert!(matches!(decide(&known, vec![delta(&[2.1, 2.3])], 1), RoundDecision::Merge { .. }));
        let RoundDecision::RollBack { why } = decide(&known, spike(), 1) else {
            panic!("5.5 is far above 2")
        };
        assert!(why.starts_with("the round has a loss of 5.5000, above 2.5"), "{why}");
    }
}
