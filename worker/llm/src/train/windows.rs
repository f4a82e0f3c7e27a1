//! Sequences of one corpus as samples: windows of the running text for pre-training, packed sequences for
//! fine-tuning.

use super::dataset::{Dataset, DatasetInfo, TokenBatch};
use super::{Corpus, Error, Packing};
use muster_data::pack::TooLong;
use muster_host::durable;
use std::sync::Arc;

/// The text of all documents as one sequence, cut into consecutive windows.
pub struct TextWindows {
    corpus: Arc<Corpus>,
    context: usize,
    cut: bool,
    info: DatasetInfo,
}

impl TextWindows {
    /// Windows of `context` positions. `cut`: attention does not cross the start of a document.
    ///
    /// # Errors
    /// When there are too few tokens for one.
    pub fn new(corpus: Arc<Corpus>, context: usize, cut: bool) -> Result<Self, Error> {
        // The last position of a window needs its next token, too.
        let samples = corpus.len().saturating_sub(1).checked_div(context as u64).unwrap_or(0);
        if corpus.is_empty() {
            return Err(Error::Parameters("the corpus is empty: no document of it was kept".to_owned()));
        }
        if samples == 0 {
            return Err(Error::Parameters(format!(
                "{} tokens are too few for a context of {context}",
                corpus.len()
            )));
        }
        let hash = durable::hash(format!("{} windows {context} {cut}", corpus.hash()).as_bytes());
        let info = DatasetInfo { samples, positions: context, vocab_size: corpus.vocab_size(), hash };
        Ok(Self { corpus, context, cut, info })
    }
}

impl Dataset for TextWindows {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn batch(&self, places: &[u64]) -> Result<TokenBatch, Error> {
        let window = |place: &u64| {
            let start = place.saturating_mul(self.context as u64);
            self.corpus
                .window(start, self.context)
                .ok_or_else(|| Error::Data(format!("there is no window {place}")))
        };
        Ok(TokenBatch::of(&places.iter().map(window).collect::<Result<Vec<_>, _>>()?, self.cut))
    }
}

/// Whole sequences, packed into windows; sequences of a window do not attend to each other.
pub struct PackedSequences {
    corpus: Arc<Corpus>,
    packing: Packing,
    /// Whether windows hold several.
    several: bool,
    info: DatasetInfo,
}

impl PackedSequences {
    /// Windows of `context` positions; `padding` fills the rest of each.
    ///
    /// # Errors
    /// As [`Packing::new`]; also when nothing in the corpus is learnt from.
    pub fn new(corpus: Arc<Corpus>, context: usize, padding: u32, too_long: TooLong) -> Result<Self, Error> {
        let packing = Packing::new(&corpus, context, padding, too_long)?;
        Self::of(corpus, packing, true, &format!("packed {context} {padding} {too_long:?}"))
    }

    /// As [`PackedSequences::new`], but one sequence per window: for a learnt prompt, which precedes each.
    ///
    /// # Errors
    /// As [`PackedSequences::new`].
    pub fn alone(
        corpus: Arc<Corpus>,
        context: usize,
        padding: u32,
        too_long: TooLong,
    ) -> Result<Self, Error> {
        let packing = Packing::alone(&corpus, context, padding, too_long)?;
        Self::of(corpus, packing, false, &format!("alone {context} {padding} {too_long:?}"))
    }

    fn of(corpus: Arc<Corpus>, packing: Packing, several: bool, how: &str) -> Result<Self, Error> {
        let anything =
            (0..packing.windows()).any(|number| packing.window(&corpus, number).learnt.contains(&true));
        if !anything {
            return Err(Error::Parameters(
                "no token of the corpus is learnt from: its masks leave all out".to_owned(),
            ));
        }
        let hash = durable::hash(format!("{} {how}", corpus.hash()).as_bytes());
        let info = DatasetInfo {
            samples: packing.windows(),
            positions: packing.context(),
            vocab_size: corpus.vocab_size(),
            hash,
        };
        Ok(Self { corpus, packing, several, info })
    }

    /// How the sequences were packed.
    #[must_use]
    pub fn packing(&self) -> &Packing {
        &self.packing
    }
}

impl Dataset for PackedSequences {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn batch(&self, places: &[u64]) -> Result<TokenBatch, Error> {
        let windows: Vec<_> = places.iter().map(|place| self.packing.window(&self.corpus, *place)).collect();
        Ok(TokenBatch::of(&windows, self.several))
    }
}
