//! The messages between ranks in a round: a replica's result, or why it is refused; and the round's outcome.

use super::encoding;
use crate::error::Error;
use crate::train::error::TrainError;
use muster_collective::RoundOutcome;
use muster_llm::diloco::Int8Delta;
use muster_protocol::ids::Digest;
use muster_protocol::interval_set::IntervalSet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A replica's result at the end of a round.
#[derive(Debug)]
pub enum ReplicaResult {
    /// A delta that can be merged.
    Delta {
        /// The artifact with the replica's moments.
        state: Digest,
        /// Its loss at each of its steps: finite numbers.
        losses: Vec<f64>,
        /// Global weights less its own.
        delta: Int8Delta,
    },
    /// A loss, a gradient or a delta is NaN or infinite.
    Failed(String),
}

/// The line of JSON before a delta.
#[derive(Debug, Serialize, Deserialize)]
enum ResultHeader {
    #[serde(rename = "Learnt")]
    Delta { state: Digest, losses: Vec<f64> },
    #[serde(rename = "Wrong")]
    Failed(String),
}

impl ReplicaResult {
    /// The artifact with the replica's moments.
    pub fn state(&self) -> Option<Digest> {
        match self {
            ReplicaResult::Delta { state, .. } => Some(*state),
            ReplicaResult::Failed(_) => None,
        }
    }

    /// As bytes.
    pub fn into_bytes(self) -> Result<Vec<u8>, TrainError> {
        match self {
            ReplicaResult::Delta { state, losses, delta } => {
                line(&ResultHeader::Delta { state, losses }, &delta.to_bytes())
            }
            ReplicaResult::Failed(why) => line(&ResultHeader::Failed(why), &[]),
        }
    }

    /// From bytes, if they are of `steps` steps and `parameters` numbers.
    pub fn from_bytes(bytes: &[u8], steps: u64, parameters: usize) -> Result<ReplicaResult, Error> {
        let what = "a replica's result";
        let (head, rest) = split::<ResultHeader>(what, bytes)?;
        match head {
            ResultHeader::Delta { state, losses } => {
                let delta = Int8Delta::from_bytes(rest)?;
                if losses.len() as u64 != steps || delta.len() != parameters {
                    let (losses, numbers) = (losses.len(), delta.len());
                    return Err(TrainError::OtherReplica { losses, numbers, steps, parameters }.into());
                }
                Ok(ReplicaResult::Delta { state, losses, delta })
            }
            ResultHeader::Failed(why) => Ok(ReplicaResult::Failed(why)),
        }
    }
}

/// The outcome of a round, besides which replicas were merged.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RoundResult {
    /// Nothing was merged: the round is done again from where it began, with other samples.
    pub rolled_back: bool,
    /// Replicas with a NaN or infinite number: their samples are left out.
    pub refused: IntervalSet<u64>,
}

impl RoundResult {
    /// As the outcome of a round.
    pub fn outcome(&self, merged: Vec<u32>, mean: &[f32]) -> Result<RoundOutcome, Error> {
        Ok(RoundOutcome { merged, bytes: line(self, &encoding::to_bytes(mean))? })
    }

    /// From an outcome, with the mean of the deltas, which is empty if nothing was merged.
    pub fn from_outcome(outcome: &RoundOutcome, parameters: usize) -> Result<(RoundResult, Vec<f32>), Error> {
        let (result, rest) = split::<RoundResult>("a round's outcome", &outcome.bytes)?;
        let count = if result.rolled_back { 0 } else { parameters };
        Ok((result, encoding::from_bytes("a round's mean delta", rest, count)?))
    }

    /// Whether a replica was refused.
    pub fn refuses(&self, replica: u32) -> bool {
        self.refused.ranges().any(|range| range.contains(&u64::from(replica)))
    }
}

fn line<T: Serialize>(head: &T, rest: &[u8]) -> Result<Vec<u8>, TrainError> {
    let mut bytes = serde_json::to_vec(head)
        .map_err(|source| TrainError::Encode { what: "a rank's message of a round", source })?;
    bytes.push(b'\n');
    bytes.extend_from_slice(rest);
    Ok(bytes)
}

fn split<'a, T: DeserializeOwned>(what: &'static str, bytes: &'a [u8]) -> Result<(T, &'a [u8]), TrainError> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let head =
        serde_json::from_slice(&bytes[..end]).map_err(|source| TrainError::Decode { file: what, source })?;
    Ok((head, bytes.get(end + 1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_understood() {
        let delta = Int8Delta::quantise(&[1.0, -2.0, 0.5]).unwrap();
        let learnt = || ReplicaResult::Delta {
            state: Digest::of(b"moments"),
            losses: vec![2.5, 0.1 + 0.2],
            delta: delta.clone(),
        };
        let bytes = learnt().into_bytes().unwrap();
        let ReplicaResult::Delta { state, losses, delta: back } =
            ReplicaResult::from_bytes(&bytes, 2, 3).unwrap()
        else {
            panic!("it is a delta")
        };
        assert_eq!((state, losses.len(), back), (Digest::of(b"moments"), 2, delta.clone()));
        for (steps, parameters) in [(3, 3), (2, 4)] {
            let message = ReplicaResult::from_bytes(&bytes, steps, parameters).unwrap_err().to_string();
            assert!(message.contains("2 losses and 3 numbers"), "{message}");
        }
        let bytes = ReplicaResult::Failed("the loss is NaN".to_owned()).into_bytes().unwrap();
        assert!(
            matches!(ReplicaResult::from_bytes(&bytes, 2, 3).unwrap(), ReplicaResult::Failed(why) if why == "the loss is NaN")
        );
        assert!(
            ReplicaResult::from_bytes(b"?\n", 2, 3).is_err() && ReplicaResult::from_bytes(b"", 2, 3).is_err()
        );
    }

    #[test]
    fn an_outcome_has_a_mean_unless_nothing_was_merged() {
        let result =
            RoundResult { rolled_back: false, refused: IntervalSet::from_disjoint([1..2, 5..7]).unwrap() };
        let outcome = result.outcome(vec![0, 2], &[1.5, -1.0]).unwrap();
        let (back, mean) = RoundResult::from_outcome(&outcome, 2).unwrap();
        assert_eq!(
            (mean, (0..8).filter(|replica| back.refuses(*replica)).collect::<Vec<_>>()),
            (vec![1.5, -1.0], vec![1, 5, 6])
        );
        assert!(
            RoundResult::from_outcome(&outcome, 3)
                .unwrap_err()
                .to_string()
                .contains("8 bytes where 3 numbers")
        );
        let outcome =
            RoundResult { rolled_back: true, ..RoundResult::default() }.outcome(Vec::new(), &[]).unwrap();
        let (back, mean) = RoundResult::from_outcome(&outcome, 2).unwrap();
        assert!(back.rolled_back && mean.is_empty());
    }
}
