//! What goes between the ranks in a round: what a replica has learnt, or why it may not count; and what came
//! of the round.

use super::state;
use crate::error::Error;
use muster_collective::Outcome;
use muster_llm::diloco::{Int8Delta, Runs};
use muster_protocol::ids::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a replica brings to the end of a round.
#[derive(Debug)]
pub enum Learnt {
    /// What may be merged.
    Delta {
        /// The artifact with the replica's moments.
        state: Digest,
        /// Its loss at each of its steps: finite numbers.
        losses: Vec<f64>,
        /// Global weights less its own.
        delta: Int8Delta,
    },
    /// A loss, a gradient or a delta was no finite number.
    Wrong(String),
}

/// What stands before a delta, in a line.
#[derive(Debug, Serialize, Deserialize)]
enum Head {
    Learnt { state: Digest, losses: Vec<f64> },
    Wrong(String),
}

impl Learnt {
    /// The artifact with the replica's moments.
    pub fn state(&self) -> Option<Digest> {
        match self {
            Learnt::Delta { state, .. } => Some(*state),
            Learnt::Wrong(_) => None,
        }
    }

    /// As bytes.
    pub fn into_bytes(self) -> Result<Vec<u8>, Error> {
        match self {
            Learnt::Delta { state, losses, delta } => {
                line(&Head::Learnt { state, losses }, &delta.to_bytes())
            }
            Learnt::Wrong(why) => line(&Head::Wrong(why), &[]),
        }
    }

    /// From bytes, if they are of `steps` steps and `parameters` numbers.
    pub fn from_bytes(bytes: &[u8], steps: u64, parameters: usize) -> Result<Learnt, Error> {
        let what = "what a replica has learnt";
        let (head, rest) = split::<Head>(what, bytes)?;
        match head {
            Head::Learnt { state, losses } => {
                let delta = Int8Delta::from_bytes(rest)?;
                if losses.len() as u64 != steps || delta.len() != parameters {
                    let (told, numbers) = (losses.len(), delta.len());
                    return Err(Error::Unfit(format!(
                        "read {what}: {told} losses and {numbers} numbers, of {steps} steps and {parameters} weights"
                    )));
                }
                Ok(Learnt::Delta { state, losses, delta })
            }
            Head::Wrong(why) => Ok(Learnt::Wrong(why)),
        }
    }
}

/// What came of a round, beside who was merged.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// Nothing was merged: the round is done again from where it began, with other samples.
    pub rolled_back: bool,
    /// Replicas whose numbers were none: their samples are left out.
    pub refused: Runs,
}

impl Told {
    /// As the outcome of a round.
    pub fn outcome(&self, merged: Vec<u32>, mean: &[f32]) -> Result<Outcome, Error> {
        Ok(Outcome { merged, bytes: line(self, &state::to_bytes(mean))? })
    }

    /// From an outcome, with the mean of the deltas: no numbers if there is none.
    pub fn from_outcome(outcome: &Outcome, parameters: usize) -> Result<(Told, Vec<f32>), Error> {
        let (told, rest) = split::<Told>("what came of a round", &outcome.bytes)?;
        let count = if told.rolled_back { 0 } else { parameters };
        Ok((told, state::from_bytes("a round's mean delta", rest, count)?))
    }

    /// Whether a replica was refused.
    pub fn refuses(&self, replica: u32) -> bool {
        self.refused.ranges().any(|range| range.contains(&u64::from(replica)))
    }
}

fn line<T: Serialize>(head: &T, rest: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = serde_json::to_vec(head)
        .map_err(|e| Error::Unfit(format!("write what a rank says of a round: {e}")))?;
    bytes.push(b'\n');
    bytes.extend_from_slice(rest);
    Ok(bytes)
}

fn split<'a, T: DeserializeOwned>(what: &str, bytes: &'a [u8]) -> Result<(T, &'a [u8]), Error> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let head =
        serde_json::from_slice(&bytes[..end]).map_err(|e| Error::Unfit(format!("read {what}: {e}")))?;
    Ok((head, bytes.get(end + 1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_understood() {
        let delta = Int8Delta::quantise(&[1.0, -2.0, 0.5]).unwrap();
        let learnt = || Learnt::Delta {
            state: Digest::of(b"moments"),
            losses: vec![2.5, 0.1 + 0.2],
            delta: delta.clone(),
        };
        let bytes = learnt().into_bytes().unwrap();
        let Learnt::Delta { state, losses, delta: back } = Learnt::from_bytes(&bytes, 2, 3).unwrap() else {
            panic!("it is a delta")
        };
        assert_eq!((state, losses.len(), back), (Digest::of(b"moments"), 2, delta.clone()));
        for (steps, parameters) in [(3, 3), (2, 4)] {
            let message = Learnt::from_bytes(&bytes, steps, parameters).unwrap_err().to_string();
            assert!(message.contains("2 losses and 3 numbers"), "{message}");
        }
        let bytes = Learnt::Wrong("the loss is NaN".to_owned()).into_bytes().unwrap();
        assert!(
            matches!(Learnt::from_bytes(&bytes, 2, 3).unwrap(), Learnt::Wrong(why) if why == "the loss is NaN")
        );
        assert!(Learnt::from_bytes(b"?\n", 2, 3).is_err() && Learnt::from_bytes(b"", 2, 3).is_err());
    }

    #[test]
    fn an_outcome_has_a_mean_unless_nothing_was_merged() {
        let told = Told { rolled_back: false, refused: Runs::of([1..2, 5..7]).unwrap() };
        let outcome = told.outcome(vec![0, 2], &[1.5, -1.0]).unwrap();
        let (back, mean) = Told::from_outcome(&outcome, 2).unwrap();
        assert_eq!(
            (mean, (0..8).filter(|replica| back.refuses(*replica)).collect::<Vec<_>>()),
            (vec![1.5, -1.0], vec![1, 5, 6])
        );
        assert!(Told::from_outcome(&outcome, 3).unwrap_err().to_string().contains("8 bytes where 3 numbers"));
        let outcome = Told { rolled_back: true, ..Told::default() }.outcome(Vec::new(), &[]).unwrap();
        let (back, mean) = Told::from_outcome(&outcome, 2).unwrap();
        assert!(back.rolled_back && mean.is_empty());
    }
}
