//! Map-style data sets: numbered samples that become batches.
//!
//! A sample is a sequence (a window of running text, packed conversations) or a pair of sequences.
//! [`super::order`] decides which samples a step takes; a data set must return the same batch for the same
//! places each time, from memory, a file or another process.

use super::Error;
use super::packing::Window;
use crate::ops::BatchLayout;
use crate::ops::linear_cross_entropy::IGNORE_INDEX;
use serde::{Deserialize, Serialize};

/// What all samples have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetInfo {
    /// Number of samples.
    pub samples: u64,
    /// Positions of a sequence, at most.
    pub positions: usize,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Identifies the samples and their order: data sets with equal hashes return the same batches.
    pub hash: String,
}

/// Samples ready for the model: sequences of one length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenBatch {
    /// Number of sequences.
    pub sequences: usize,
    /// Positions per sequence.
    pub time: usize,
    /// Input tokens, sequence by sequence.
    pub tokens: Vec<u32>,
    /// The next token at each position, or [`IGNORE_INDEX`] where the loss is not counted.
    pub targets: Vec<u32>,
    /// For each position, where in its sequence its document begins; `None` means 0.
    pub starts: Option<Vec<u32>>,
    /// For pairs, whose sequences alternate chosen, rejected: the log-probability in nats that the reference
    /// model gives to each. Empty for other samples.
    pub reference: Vec<[f64; 2]>,
}

impl TokenBatch {
    /// The layout of the sequences.
    #[must_use]
    pub fn rows(&self) -> BatchLayout {
        BatchLayout {
            batch: self.sequences,
            time: self.time,
            starts: self.starts.as_ref().map(|starts| starts.as_slice().into()),
        }
    }

    /// Number of targets that the loss counts.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.targets.iter().filter(|target| **target != IGNORE_INDEX).count()
    }

    /// Checks lengths and starts, since a batch may come from another process. The model checks the tokens.
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

    /// As bytes for another process: `sequences`, `time`, whether there are `starts` (`u32` each,
    /// little-endian); then tokens, targets and starts. `reference` is left out: it depends on the model that
    /// is trained.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let head = [self.sequences as u32, self.time as u32, u32::from(self.starts.is_some())];
        let numbers =
            head.iter().chain(&self.tokens).chain(&self.targets).chain(self.starts.iter().flatten());
        numbers.flat_map(|number| number.to_le_bytes()).collect()
    }

    /// Reads what [`TokenBatch::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Data`] when the bytes are malformed, or the batch does not pass [`TokenBatch::validate`].
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
            batch
                .targets
                .extend(targets.map(|(target, learnt)| if *learnt { *target } else { IGNORE_INDEX }));
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

/// A source of batches, as PyTorch's map-style `Dataset`.
pub trait Dataset: Send + Sync {
    /// What all samples have in common.
    fn info(&self) -> &DatasetInfo;

    /// The samples at `places`, which are below [`DatasetInfo::samples`], in this order.
    ///
    /// # Errors
    /// When one can't be read.
    fn batch(&self, places: &[u64]) -> Result<TokenBatch, Error>;

    /// Announces the batches that will be wanted from now on, in this order, instead of those announced
    /// before. A remote data set may fetch them ahead; a local one does nothing.
    fn prefetch(&self, upcoming: Box<dyn Iterator<Item = Vec<u64>> + Send>) {
        drop(upcoming);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_from_its_bytes_or_is_refused() {
        let plain = TokenBatch {
            sequences: 2,
            time: 3,
            tokens: (0..6).collect(),
            targets: vec![1, 2, IGNORE_INDEX, 4, 5, IGNORE_INDEX],
            ..TokenBatch::default()
        };
        let cut = TokenBatch { starts: Some(vec![0, 0, 2, 0, 1, 1]), ..plain.clone() };
        for batch in [plain, cut] {
            let bytes = batch.to_bytes();
            assert_eq!(TokenBatch::from_bytes(&bytes).expect("is sound"), batch);
            for length in 0..bytes.len() {
                assert!(TokenBatch::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
            }
            for place in [0, 4, 8] {
                let mut other = bytes.clone();
                other[place] ^= 1;
                assert!(TokenBatch::from_bytes(&other).is_err(), "byte {place} changed");
            }
        }
        let late = TokenBatch {
            sequences: 1,
            time: 2,
            tokens: vec![1, 2],
            targets: vec![2, 3],
            starts: Some(vec![1, 1]),
            reference: Vec::new(),
        };
        assert!(
            TokenBatch::from_bytes(&late.to_bytes())
                .expect_err("is no start")
                .to_string()
                .contains("behind its own position")
        );
        assert!(TokenBatch::from_bytes(&[255; 12]).is_err());
    }
}
