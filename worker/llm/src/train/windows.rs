//! Sequences of one corpus as samples: windows of the running text for pre-training, packed sequences for
//! fine-tuning.

use super::samples::{About, Batch, Samples};
use super::{Corpus, Error, Packing};
use muster_data::pack::TooLong;
use muster_host::durable;
use std::sync::Arc;

/// The one sequence over all documents, cut into windows that follow each other.
pub struct Windows {
    corpus: Arc<Corpus>,
    context: usize,
    cut: bool,
    about: About,
}

impl Windows {
    /// Windows of `context` positions. `cut`: attention does not look back beyond the start of a document.
    ///
    /// # Errors
    /// When there are too few tokens for one.
    pub fn new(corpus: Arc<Corpus>, context: usize, cut: bool) -> Result<Self, Error> {
        // The last token of a window is predicted, too, so one more is needed.
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
        let about = About { samples, positions: context, vocab_size: corpus.vocab_size(), hash };
        Ok(Self { corpus, context, cut, about })
    }
}

impl Samples for Windows {
    fn about(&self) -> &About {
        &self.about
    }

    fn batch(&self, places: &[u64]) -> Result<Batch, Error> {
        let window = |place: &u64| {
            let start = place.saturating_mul(self.context as u64);
            self.corpus
                .window(start, self.context)
                .ok_or_else(|| Error::Data(format!("there is no window {place}")))
        };
        Ok(Batch::of(&places.iter().map(window).collect::<Result<Vec<_>, _>>()?, self.cut))
    }
}

/// Whole sequences, packed so that few positions are wasted; they don't see each other.
pub struct Packed {
    corpus: Arc<Corpus>,
    packing: Packing,
    /// Whether windows hold several.
    several: bool,
    about: About,
}

impl Packed {
    /// Windows of `context` positions, in which `padding` fills what is left.
    ///
    /// # Errors
    /// As [`Packing::new`]; also when nothing in the corpus is learnt from.
    pub fn new(corpus: Arc<Corpus>, context: usize, padding: u32, too_long: TooLong) -> Result<Self, Error> {
        let packing = Packing::new(&corpus, context, padding, too_long)?;
        Self::of(corpus, packing, true, &format!("packed {context} {padding} {too_long:?}"))
    }

    /// As [`Packed::new`], but each in a window of its own, cut nowhere: for a learnt prompt, which stands
    /// before each.
    ///
    /// # Errors
    /// As [`Packed::new`].
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
        let about = About {
            samples: packing.windows(),
            positions: packing.context(),
            vocab_size: corpus.vocab_size(),
            hash,
        };
        Ok(Self { corpus, packing, several, about })
    }

    /// How the sequences lie: what was cut, left out and padded.
    #[must_use]
    pub fn packing(&self) -> &Packing {
        &self.packing
    }
}

impl Samples for Packed {
    fn about(&self) -> &About {
        &self.about
    }

    fn batch(&self, places: &[u64]) -> Result<Batch, Error> {
        let windows: Vec<_> = places.iter().map(|place| self.packing.window(&self.corpus, *place)).collect();
        Ok(Batch::of(&windows, self.several))
    }
}
