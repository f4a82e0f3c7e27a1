//! Preferences as samples: two answers to one prompt, and how probable the reference finds each.
//!
//! The reference's log-probabilities are measured once, before the first step, and kept: so no second model
//! is held while training (as Hugging Face TRL's `precompute_ref_log_probs`). A model with a fresh adapter is
//! its own base, so this is "adapter off" as well. The cost: one forward pass over all pairs at each start,
//! unless the caller keeps what was measured.

use super::samples::{About, Batch, Samples};
use super::{Corpus, Error, loss};
use crate::model::Decoder;
use crate::ops::head_loss::IGNORED;
use muster_data::shard::Sequence;
use muster_host::compute::Compute;
use muster_host::durable;
use std::sync::Arc;

/// The preferences of a corpus.
pub struct Pairs {
    corpus: Arc<Corpus>,
    reference: Vec<[f64; 2]>,
    about: About,
}

/// Pairs whose activations exist at the same time while the reference is measured.
const PAIRS_AT_A_TIME: u64 = 8;

impl Pairs {
    /// With the reference's log-probabilities of (chosen, rejected) for each pair, as [`Pairs::reference`]
    /// gave them.
    ///
    /// # Errors
    /// When there is no pair, one is longer than `context` or has an answer without a token that counts, or
    /// `reference` has another length.
    pub fn new(corpus: Arc<Corpus>, context: usize, reference: Vec<[f64; 2]>) -> Result<Self, Error> {
        let about = about(&corpus, context)?;
        if reference.len() as u64 != about.samples || reference.iter().flatten().any(|x| !x.is_finite()) {
            let wanted = about.samples;
            return Err(Error::Data(format!(
                "{} finite log-probabilities of a reference for {wanted} pairs are wanted",
                reference.len()
            )));
        }
        Ok(Self { corpus, reference, about })
    }

    /// Measured with `model`, which is the reference as it is now.
    ///
    /// # Errors
    /// As [`Pairs::new`], and when the model refuses the tokens.
    pub fn against(
        corpus: Arc<Corpus>,
        context: usize,
        model: &Decoder,
        compute: &Compute,
    ) -> Result<Self, Error> {
        let about = about(&corpus, context)?;
        let blank = vec![[0.0; 2]; usize::try_from(about.samples).unwrap_or(usize::MAX)];
        let mut pairs = Self { corpus, reference: blank, about };
        let mut reference = Vec::with_capacity(pairs.reference.len());
        for first in (0..pairs.about.samples).step_by(PAIRS_AT_A_TIME as usize) {
            let places: Vec<u64> = (first..pairs.about.samples.min(first + PAIRS_AT_A_TIME)).collect();
            let batch = pairs.batch(&places)?;
            reference.extend(crate::compute::run(compute, || loss::log_probabilities(model, &batch, None))?);
        }
        pairs.reference = reference;
        Ok(pairs)
    }

    /// What the reference gives to (chosen, rejected) of each pair, in nats.
    #[must_use]
    pub fn reference(&self) -> &[[f64; 2]] {
        &self.reference
    }
}

/// Looks at every pair: what does not fit should be known before the first step.
fn about(corpus: &Corpus, context: usize) -> Result<About, Error> {
    let samples = corpus.preferences();
    if samples == 0 {
        return Err(Error::Parameters("the corpus holds no preferences".to_owned()));
    }
    for place in 0..samples {
        let pair =
            corpus.preference(place).ok_or_else(|| Error::Data(format!("there is no pair {place}")))?;
        for (sequence, which) in pair.iter().zip(["chosen", "rejected"]) {
            let positions = sequence.tokens.len().saturating_sub(1);
            if positions > context {
                return Err(Error::Parameters(format!(
                    "the {which} answer of pair {place} takes {positions} positions, more than the context of {context}"
                )));
            }
            if !sequence.learnt.iter().skip(1).any(|learnt| *learnt) {
                return Err(Error::Data(format!(
                    "the {which} answer of pair {place} has no token that counts"
                )));
            }
        }
    }
    let hash = durable::hash(format!("{} pairs {context}", corpus.hash()).as_bytes());
    Ok(About { samples, positions: context, vocab_size: corpus.vocab_size(), hash })
}

impl Samples for Pairs {
    fn about(&self) -> &About {
        &self.about
    }

    fn batch(&self, places: &[u64]) -> Result<Batch, Error> {
        let mut sequences: Vec<Sequence> = Vec::new();
        let mut reference = Vec::new();
        for place in places {
            let absent = || Error::Data(format!("there is no pair {place}"));
            sequences.extend(self.corpus.preference(*place).ok_or_else(absent)?);
            let at = usize::try_from(*place).unwrap_or(usize::MAX);
            reference.push(*self.reference.get(at).ok_or_else(absent)?);
        }
        let time =
            sequences.iter().map(|sequence| sequence.tokens.len().saturating_sub(1)).max().unwrap_or(0);
        let mut batch = Batch { sequences: sequences.len(), time, reference, ..Batch::default() };
        for Sequence { tokens, learnt } in sequences {
            let count = tokens.len().saturating_sub(1);
            batch.tokens.extend_from_slice(&tokens[..count]);
            batch.targets.extend(
                tokens[1..]
                    .iter()
                    .zip(&learnt[1..])
                    .map(|(token, learnt)| if *learnt { *token } else { IGNORED }),
            );
            // What stands behind a sequence is never looked at, since attention looks back only.
            batch.tokens.resize(batch.tokens.len() + time - count, 0);
            batch.targets.resize(batch.tokens.len(), IGNORED);
        }
        Ok(batch)
    }
}
