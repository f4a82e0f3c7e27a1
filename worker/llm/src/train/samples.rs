//! Where batches come from: numbered samples, whatever they are made of.
//!
//! A sample is a sequence (a window of running text, packed conversations) or a pair of them. Which samples a
//! step takes is decided by [`super::order`]; a source only has to give the same batch for the same places
//! each time, from memory, a file or another process.

use super::Error;
use super::packing::Window;
use crate::ops::Rows;
use crate::ops::head_loss::IGNORED;
use serde::{Deserialize, Serialize};

/// What is known of all samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// How many there are.
    pub samples: u64,
    /// The most positions that a sequence takes.
    pub positions: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Names the samples and their places: two sources with one hash give the same batches.
    pub hash: String,
}

/// Some samples, ready for the model: sequences of one length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// How many sequences.
    pub sequences: usize,
    /// Positions of each.
    pub time: usize,
    /// What the model sees, sequence by sequence.
    pub tokens: Vec<u32>,
    /// What it should say next at each position, or [`IGNORED`] where nothing is learnt.
    pub targets: Vec<u32>,
    /// For each position, where in its sequence its document begins; `None`: at 0.
    pub starts: Option<Vec<u32>>,
    /// For pairs, which lie in the order chosen, rejected: the log-probability that the reference gives to
    /// the two. Else empty.
    pub reference: Vec<[f64; 2]>,
}

impl Batch {
    /// How the sequences lie.
    #[must_use]
    pub fn rows(&self) -> Rows {
        Rows {
            batch: self.sequences,
            time: self.time,
            starts: self.starts.as_ref().map(|starts| starts.as_slice().into()),
        }
    }

    /// How many targets are learnt from.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.targets.iter().filter(|target| **target != IGNORED).count()
    }

    /// Checks lengths and places, since a batch may come from another process. Tokens are checked by the
    /// model.
    ///
    /// # Errors
    /// [`Error::Data`] naming what does not fit.
    pub fn validate(&self) -> Result<(), Error> {
        let count = self.sequences.checked_mul(self.time).filter(|count| *count > 0);
        let wrong = match count {
            Some(count) if self.tokens.len() != count => format!("{} tokens", self.tokens.len()),
            Some(count) if self.targets.len() != count => format!("{} targets", self.targets.len()),
            Some(count) => match &self.starts {
                Some(starts) if starts.len() != count => format!("{} starts", starts.len()),
                Some(starts)
                    if starts.iter().enumerate().any(|(at, start)| *start as usize > at % self.time) =>
                {
                    "a start behind its own position".to_owned()
                }
                Some(_) | None => return Ok(()),
            },
            None => "nothing".to_owned(),
        };
        Err(Error::Data(format!(
            "a batch of {} sequences of {} positions has {wrong}",
            self.sequences, self.time
        )))
    }

    /// As bytes for another process: how many sequences, of how many positions, whether documents begin
    /// inside (`u32` each); then tokens, targets and starts. A reference is not among them: it belongs to the
    /// model that learns.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let head = [self.sequences as u32, self.time as u32, u32::from(self.starts.is_some())];
        let numbers =
            head.iter().chain(&self.tokens).chain(&self.targets).chain(self.starts.iter().flatten());
        numbers.flat_map(|number| number.to_le_bytes()).collect()
    }

    /// What [`Batch::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Data`] when it is none, or does not pass [`Batch::validate`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |what: String| Error::Data(format!("a batch of {} bytes {what}", bytes.len()));
        let (words, rest) = bytes.as_chunks::<4>();
        let mut numbers = words.iter().map(|word| u32::from_le_bytes(*word));
        let (Some(sequences), Some(time), Some(cut), true) =
            (numbers.next(), numbers.next(), numbers.next(), rest.is_empty())
        else {
            return Err(wrong("has no head".to_owned()));
        };
        let (sequences, time) = (sequences as usize, time as usize);
        let parts = if cut == 0 { 2 } else { 3 };
        let count =
            sequences.checked_mul(time).filter(|count| count.checked_mul(parts) == Some(words.len() - 3));
        let count = count
            .ok_or_else(|| wrong(format!("says that it has {sequences} sequences of {time} positions")))?;
        let mut take = || numbers.by_ref().take(count).collect::<Vec<u32>>();
        let (tokens, targets) = (take(), take());
        let starts = (cut != 0).then(take);
        let batch = Self { sequences, time, tokens, targets, starts, reference: Vec::new() };
        batch.validate()?;
        Ok(batch)
    }

    /// Windows of one length; attention is cut where their documents begin if `cut`.
    pub(super) fn of(windows: &[Window], cut: bool) -> Self {
        let time = windows.first().map_or(0, |window| window.inputs.len());
        let mut batch = Self { sequences: windows.len(), time, ..Self::default() };
        for window in windows {
            batch.tokens.extend_from_slice(&window.inputs);
            let targets = window.targets.iter().zip(&window.learnt);
            batch.targets.extend(targets.map(|(target, learnt)| if *learnt { *target } else { IGNORED }));
        }
        if cut && windows.iter().any(|window| window.starts.len() > 1) {
            batch.starts = Some(windows.iter().flat_map(starts).collect());
        }
        batch
    }
}

/// Where the document of each position of a window begins.
fn starts(window: &Window) -> impl Iterator<Item = u32> {
    let ends = window.starts.iter().skip(1).copied().chain([window.inputs.len() as u32]);
    window
        .starts
        .iter()
        .zip(ends)
        .flat_map(|(start, end)| std::iter::repeat_n(*start, (end - start) as usize))
}

/// A source of batches.
pub trait Samples: Send + Sync {
    /// What is known of all samples.
    fn about(&self) -> &About;

    /// The samples at `places`, which are below [`About::samples`], in this order.
    ///
    /// # Errors
    /// When one can't be read.
    fn batch(&self, places: &[u64]) -> Result<Batch, Error>;

    /// The batches that will be wanted from now on, in this order; those that were expected before are not. A
    /// source that is elsewhere may fetch them ahead; another does nothing.
    fn expect(&self, upcoming: Box<dyn Iterator<Item = Vec<u64>> + Send>) {
        drop(upcoming);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_from_its_bytes_or_is_refused() {
        let plain = Batch {
            sequences: 2,
            time: 3,
            tokens: (0..6).collect(),
            targets: vec![1, 2, IGNORED, 4, 5, IGNORED],
            ..Batch::default()
        };
        let cut = Batch { starts: Some(vec![0, 0, 2, 0, 1, 1]), ..plain.clone() };
        for batch in [plain, cut] {
            let bytes = batch.to_bytes();
            assert_eq!(Batch::from_bytes(&bytes).expect("is sound"), batch);
            for length in 0..bytes.len() {
                assert!(Batch::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
            }
            for place in [0, 4, 8] {
                let mut other = bytes.clone();
                other[place] ^= 1;
                assert!(Batch::from_bytes(&other).is_err(), "byte {place} changed");
            }
        }
        let late = Batch {
            sequences: 1,
            time: 2,
            tokens: vec![1, 2],
            targets: vec![2, 3],
            starts: Some(vec![1, 1]),
            reference: Vec::new(),
        };
        assert!(
            Batch::from_bytes(&late.to_bytes())
                .expect_err("is no start")
                .to_string()
                .contains("behind its own position")
        );
        assert!(Batch::from_bytes(&[255; 12]).is_err());
    }
}
