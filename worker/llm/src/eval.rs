//! Held-out bits per byte, of a model and of two baselines over the very same tokens.
//!
//! Bytes are those of the decoded text, so tokenizers can be compared; boundaries cost bits and give no bytes.

use crate::compute::Compute;
use crate::model::Decoder;
use crate::ops::Rows;
use crate::train::Corpus;
use serde::{Deserialize, Serialize};

/// What can fail in measuring.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The data don't fit each other or the model.
    #[error("use the held-out data: {0}")]
    Data(String),
}

/// A measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Tokens predicted.
    pub tokens: u64,
    /// Bytes of text that they stand for.
    pub bytes: u64,
    /// The model's bits per byte.
    pub model_bits_per_byte: f64,
    /// Those of a uniform guess over the vocabulary.
    pub uniform_bits_per_byte: f64,
    /// Those of the training tokens' frequencies, with one added to each count.
    pub unigram_bits_per_byte: f64,
    /// The model's mean loss in nats per token.
    pub model_loss: f64,
    /// How much lower than the unigram's the model's bits per byte are, as a part of the unigram's.
    pub gain_over_unigram: f64,
}

/// Measures `model` on the first `tokens_max` tokens of `held_out`.
///
/// `training_counts` is [`Corpus::counts`] of the training tokens, `byte_lengths` the tokenizer's.
///
/// # Errors
/// When there are fewer than two tokens, or a table's length is not the model's vocabulary.
pub fn evaluate(
    model: &Decoder,
    held_out: &Corpus,
    tokens_max: u64,
    training_counts: &[u64],
    byte_lengths: &[u32],
    compute: &Compute,
) -> Result<Evaluation, Error> {
    let (vocab, context) = (model.config().vocab_size, model.config().max_position_embeddings);
    let known = held_out.vocab_size();
    if known > vocab || training_counts.len() != known || byte_lengths.len() != known {
        return Err(Error::Data(format!(
            "{known} tokens in the vocabulary, {} counts, {} lengths, for a model of {vocab}",
            training_counts.len(),
            byte_lengths.len()
        )));
    }
    let tokens_all = held_out.len().min(tokens_max);
    if tokens_all < 2 {
        return Err(Error::Data(format!("{tokens_all} tokens are too few to predict one")));
    }
    let mut totals = Totals::default();
    let surprise = unigram(training_counts);
    let mut start = 0;
    // Every token but the first is predicted once, from those of its window before it.
    while start + 1 < tokens_all {
        let left = usize::try_from(tokens_all - start - 1).unwrap_or(usize::MAX);
        let rows = if left < context { Rows::new(1, left) } else { Rows::new((left / context).min(SEQUENCES_PER_BATCH), context) };
        let count = rows.batch * rows.time;
        let window = held_out.tokens(start, count + 1);
        let targets = &window[1..];
        for loss in compute.run(|| model.token_losses(&window[..count], targets, &rows))? {
            totals.model += f64::from(loss);
        }
        for target in targets {
            totals.unigram += surprise[*target as usize];
            totals.bytes += u64::from(byte_lengths[*target as usize]);
        }
        totals.tokens += count as u64;
        start += count as u64;
    }
    totals.conclude(known)
}

/// Sequences whose activations exist at the same time.
const SEQUENCES_PER_BATCH: usize = 16;

#[derive(Default)]
struct Totals {
    tokens: u64,
    bytes: u64,
    /// In nats, as all of these.
    model: f64,
    unigram: f64,
}

impl Totals {
    fn conclude(&self, vocab: usize) -> Result<Evaluation, Error> {
        if self.bytes == 0 {
            return Err(Error::Data("the tokens stand for no text".to_owned()));
        }
        if !self.model.is_finite() {
            return Err(Error::Data(format!("the model's loss is {}", self.model)));
        }
        let per_byte = |nats: f64| nats / std::f64::consts::LN_2 / self.bytes as f64;
        let (model, unigram) = (per_byte(self.model), per_byte(self.unigram));
        Ok(Evaluation {
            tokens: self.tokens,
            bytes: self.bytes,
            model_bits_per_byte: model,
            uniform_bits_per_byte: per_byte(self.tokens as f64 * (vocab as f64).ln()),
            unigram_bits_per_byte: unigram,
            model_loss: self.model / self.tokens as f64,
            gain_over_unigram: 1.0 - model / unigram,
        })
    }
}

/// What each token costs, in nats, when its frequency (one added to each count) is all that is known.
fn unigram(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().sum::<u64>() + counts.len() as u64;
    counts.iter().map(|count| ((total as f64) / (*count + 1) as f64).ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;
    use crate::model::weights::initial;
    use crate::train::tests::shard;

    fn model() -> Decoder {
        let config =
            ModelConfig { vocab_size: 4, hidden_size: 16, intermediate_size: 8, max_position_embeddings: 3, ..ModelConfig::default() };
        Decoder::trained(config.clone(), &initial(&config, 1)).expect("builds")
    }

    #[test]
    fn baselines_agree_with_a_count_by_hand() {
        let compute = Compute::new(1).expect("starts");
        let held_out = Corpus::new(vec![shard(&[1, 1, 2, 0, 3, 1, 0], 4)]).expect("joins");
        // Counts 1, 5, 2, 0 become 2/12, 6/12, 3/12, 1/12; tokens of 0, 1, 2 and 3 bytes.
        let found = evaluate(&model(), &held_out, 99, &[1, 5, 2, 0], &[0, 1, 2, 3], &compute).expect("measures");
        assert_eq!((found.tokens, found.bytes), (6, 1 + 2 + 3 + 1));
        let probabilities = [6.0f64, 3.0, 2.0, 1.0, 6.0, 2.0];
        let bits: f64 = probabilities.iter().map(|p| -(p / 12.0).log2()).sum();
        assert!((found.unigram_bits_per_byte - bits / 7.0).abs() < 1e-12);
        assert!((found.uniform_bits_per_byte - 12.0 / 7.0).abs() < 1e-12);
        assert!((found.model_bits_per_byte - 12.0 / 7.0).abs() < 0.2, "an untrained model guesses: {found:?}");
        assert_eq!(found.gain_over_unigram, 1.0 - found.model_bits_per_byte / found.unigram_bits_per_byte);

        let fewer = evaluate(&model(), &held_out, 3, &[1, 5, 2, 0], &[0, 1, 2, 3], &compute).expect("measures");
        assert_eq!((fewer.tokens, fewer.bytes), (2, 3));
    }

    #[test]
    fn windows_change_nothing_but_the_context() {
        let (compute, model) = (Compute::new(1).expect("starts"), model());
        let tokens: Vec<u16> = (0..200).map(|i| (i * i % 4) as u16).collect();
        let held_out = Corpus::new(vec![shard(&tokens, 4)]).expect("joins");
        let found = evaluate(&model, &held_out, 200, &[1; 4], &[1; 4], &compute).expect("measures");
        let mut nats = 0f64;
        for start in (0..199).step_by(3) {
            let window = held_out.tokens(start, 4);
            let time = window.len() - 1;
            let losses = model.token_losses(&window[..time], &window[1..], &Rows::new(1, time)).expect("runs");
            nats += losses.iter().map(|x| f64::from(*x)).sum::<f64>();
        }
        assert_eq!(found.tokens, 199);
        assert!((found.model_loss - nats / 199.0).abs() < 1e-6);
    }

    #[test]
    fn data_that_do_not_fit_are_refused() {
        let compute = Compute::new(1).expect("starts");
        let held_out = Corpus::new(vec![shard(&[1, 1, 2], 4)]).expect("joins");
        let refused = |max, counts: &[u64], bytes: &[u32]| {
            evaluate(&model(), &held_out, max, counts, bytes, &compute).expect_err("refused").to_string()
        };
        assert!(refused(1, &[0; 4], &[1; 4]).contains("too few"));
        assert!(refused(9, &[0; 5], &[1; 4]).contains("5 counts"));
        assert!(refused(9, &[0; 4], &[0; 4]).contains("no text"));
    }
}
