//! Preferences as samples, for DPO: two answers to one prompt, and the reference model's log-probability of
//! each.
//!
//! The reference's log-probabilities are computed once, before the first step, so that no second model is
//! needed while training (as Hugging Face TRL's `precompute_ref_log_probs`). A model with a fresh adapter
//! equals its base, so it can be its own reference. The cost: one forward pass over all pairs at each start,
//! unless the caller keeps the result.

use super::dataset::{Dataset, DatasetInfo, TokenBatch};
use super::{Corpus, Error, loss};
use crate::model::Decoder;
use crate::ops::linear_cross_entropy::IGNORE_INDEX;
use muster_data::shard::Sequence;
use muster_host::compute::Compute;
use muster_host::durable;
use std::sync::Arc;

/// The preferences of a corpus.
pub struct PreferencePairs {
    corpus: Arc<Corpus>,
    reference: Vec<[f64; 2]>,
    info: DatasetInfo,
}

/// Pairs that the reference computes at a time.
const PAIRS_AT_A_TIME: u64 = 8;

impl PreferencePairs {
    /// Pairs with the reference's log-probabilities of (chosen, rejected), as [`PreferencePairs::reference`]
    /// returned them.
    ///
    /// # Errors
    /// When there is no pair, one is longer than `context` or has an answer without a token that counts, or
    /// `reference` has another length.
    pub fn new(corpus: Arc<Corpus>, context: usize, reference: Vec<[f64; 2]>) -> Result<Self, Error> {
        let info = info(&corpus, context)?;
        if reference.len() as u64 != info.samples || reference.iter().flatten().any(|x| !x.is_finite()) {
            let wanted = info.samples;
            return Err(Error::Data(format!(
                "{} finite log-probabilities of a reference for {wanted} pairs are wanted",
                reference.len()
            )));
        }
        Ok(Self { corpus, reference, info })
    }

    /// Pairs with the log-probabilities that `model`, the reference, gives.
    ///
    /// # Errors
    /// As [`PreferencePairs::new`], and when the model refuses the tokens.
    pub fn against(
        corpus: Arc<Corpus>,
        context: usize,
        model: &Decoder,
        compute: &Compute,
    ) -> Result<Self, Error> {
        let info = info(&corpus, context)?;
        let blank = vec![[0.0; 2]; usize::try_from(info.samples).unwrap_or(usize::MAX)];
        let mut pairs = Self { corpus, reference: blank, info };
        let mut reference = Vec::with_capacity(pairs.reference.len());
        for first in (0..pairs.info.samples).step_by(PAIRS_AT_A_TIME as usize) {
            let places: Vec<u64> = (first..pairs.info.samples.min(first + PAIRS_AT_A_TIME)).collect();
            let batch = pairs.batch(&places)?;
            reference.extend(compute.run(|| loss::log_probabilities(model, &batch, None))?);
        }
        pairs.reference = reference;
        Ok(pairs)
    }

    /// The reference's log-probabilities of (chosen, rejected) for each pair, in nats.
    #[must_use]
    pub fn reference(&self) -> &[[f64; 2]] {
        &self.reference
    }
}

/// Checks every pair: what does not fit should be known before the first step.
fn info(corpus: &Corpus, context: usize) -> Result<DatasetInfo, Error> {
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
    Ok(DatasetInfo { samples, positions: context, vocab_size: corpus.vocab_size(), hash })
}

impl Dataset for PreferencePairs {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn batch(&self, places: &[u64]) -> Result<TokenBatch, Error> {
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
        let mut batch = TokenBatch { sequences: sequences.len(), time, reference, ..TokenBatch::default() };
        for Sequence { tokens, learnt } in sequences {
            let count = tokens.len().saturating_sub(1);
            batch.tokens.extend_from_slice(&tokens[..count]);
            batch.targets.extend(
                tokens[1..]
                    .iter()
                    .zip(&learnt[1..])
                    .map(|(token, learnt)| if *learnt { *token } else { IGNORE_INDEX }),
            );
            // Padding at the end is never attended to, because attention is causal.
            batch.tokens.resize(batch.tokens.len() + time - count, 0);
            batch.targets.resize(batch.tokens.len(), IGNORE_INDEX);
        }
        Ok(batch)
    }
}
