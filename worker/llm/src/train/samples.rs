//! Where batches come from: numbered samples, whatever they are made of.
//!
//! A sample is a sequence (a window of running text, packed conversations) or a pair of them. Which samples a step takes is decided by
//! [`super::order`]; a source only has to give the same batch for the same places each time, from memory, a file or another process.

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
    /// For pairs, which lie in the order chosen, rejected: the log-probability that the reference gives to the two. Else empty.
    pub reference: Vec<[f64; 2]>,
}

impl Batch {
    /// How the sequences lie.
    #[must_use]
    pub fn rows(&self) -> Rows {
        Rows { batch: self.sequences, time: self.time, starts: self.starts.as_ref().map(|starts| starts.as_slice().into()) }
    }

    /// How many targets are learnt from.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.targets.iter().filter(|target| **target != IGNORED).count()
    }

    /// Checks lengths and places, since a batch may come from another process. Tokens are checked by the model.
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
                Some(starts) if starts.iter().enumerate().any(|(at, start)| *start as usize > at % self.time) => {
                    "a start behind its own position".to_owned()
                }
                Some(_) | None => return Ok(()),
            },
            None => "nothing".to_owned(),
        };
        Err(Error::Data(format!("a batch of {} sequences of {} positions has {wrong}", self.sequences, self.time)))
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
    window.starts.iter().zip(ends).flat_map(|(start, end)| std::iter::repeat_n(*start, (end - start) as usize))
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
}
