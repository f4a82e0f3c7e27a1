//! Bits per byte of held-out text, of a model and of two baselines over the same tokens.
//!
//! Bytes are those of the decoded text, so that tokenizers can be compared; boundaries and special tokens
//! cost bits but have no bytes. Measured is what is learnt: of running text every token; of masked data the
//! tokens that the masks name, each given all tokens before it in its own sequence (as
//! lm-evaluation-harness's `loglikelihood` of a continuation). Questions and rejected answers are never
//! measured.

use crate::model::Decoder;
use crate::ops::BatchLayout;
use crate::ops::linear_cross_entropy::IGNORE_INDEX;
use crate::train::Corpus;
use muster_host::compute::Compute;
use serde::{Deserialize, Serialize};

/// What can fail in measuring.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The data do not fit each other or the model.
    #[error("use the held-out data: {0}")]
    Data(String),
}

/// Which tokens were measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasuredTokens {
    /// Every token of the running text but the first.
    #[default]
    Text,
    /// The tokens that the masks name: answers, given their questions.
    Answers,
}

/// A measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Which tokens were measured.
    #[serde(default)]
    pub measured: MeasuredTokens,
    /// Number of tokens predicted.
    pub tokens: u64,
    /// Bytes of text that these tokens decode to.
    pub bytes: u64,
    /// The model's bits per byte.
    pub model_bits_per_byte: f64,
    /// Bits per byte of a uniform distribution over the vocabulary.
    pub uniform_bits_per_byte: f64,
    /// Bits per byte of the training tokens' frequencies, with one added to each count.
    pub unigram_bits_per_byte: f64,
    /// The model's mean loss in nats per token.
    pub model_loss: f64,
    /// `1 - model_bits_per_byte / unigram_bits_per_byte`.
    pub gain_over_unigram: f64,
}

/// Measures `model` on the first `tokens_max` tokens of `held_out`; if it has masks, on the first
/// `tokens_max` tokens that they name.
///
/// `training_counts` is [`Corpus::counts`] of the training tokens, `byte_lengths` the tokenizer's.
///
/// # Errors
/// When there are fewer than two tokens or the masks name none, or a table's length is not the model's
/// vocabulary.
pub fn evaluate(
    model: &Decoder,
    held_out: &Corpus,
    tokens_max: u64,
    training_counts: &[u64],
    byte_lengths: &[u32],
    compute: &Compute,
) -> Result<Evaluation, Error> {
    let vocab = model.config().vocab_size;
    let known = held_out.vocab_size();
    if known > vocab || training_counts.len() != known || byte_lengths.len() != known {
        return Err(Error::Data(format!(
            "{known} tokens in the vocabulary, {} counts, {} lengths, for a model of {vocab}",
            training_counts.len(),
            byte_lengths.len()
        )));
    }
    let meter = Meter { model, compute, byte_lengths, surprise: unigram(training_counts) };
    if held_out.is_masked() {
        meter.answers(held_out, tokens_max)?.conclude(MeasuredTokens::Answers, known)
    } else {
        meter.text(held_out, tokens_max)?.conclude(MeasuredTokens::Text, known)
    }
}

/// Sequences that are computed at a time.
const SEQUENCES_PER_BATCH: usize = 16;

struct Meter<'a> {
    model: &'a Decoder,
    compute: &'a Compute,
    byte_lengths: &'a [u32],
    /// Each token's cost in nats by its frequency alone.
    surprise: Vec<f64>,
}

impl Meter<'_> {
    fn context(&self) -> usize {
        self.model.context()
    }

    /// Every token but the first is predicted once, from those of its window before it.
    fn text(&self, held_out: &Corpus, tokens_max: u64) -> Result<Totals, Error> {
        let context = self.context();
        let tokens_all = held_out.len().min(tokens_max);
        if tokens_all < 2 {
            return Err(Error::Data(format!("{tokens_all} tokens are too few to predict one")));
        }
        let mut totals = Totals::default();
        let mut start = 0;
        while start + 1 < tokens_all {
            let left = usize::try_from(tokens_all - start - 1).unwrap_or(usize::MAX);
            let rows = if left < context {
                BatchLayout::new(1, left)
            } else {
                BatchLayout::new((left / context).min(SEQUENCES_PER_BATCH), context)
            };
            let count = rows.batch * rows.time;
            let window = held_out.tokens(start, count + 1);
            self.add(&mut totals, &window[..count], &window[1..], &rows)?;
            start += count as u64;
        }
        Ok(totals)
    }

    /// Every token that is learnt from but the first of a sequence is predicted once, from those of its
    /// sequence before it. A sequence that is longer than the context goes on in another window, which sees
    /// nothing of the one before.
    fn answers(&self, held_out: &Corpus, tokens_max: u64) -> Result<Totals, Error> {
        let (mut totals, mut left) = (Totals::default(), tokens_max);
        let mut batch: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
        'sequences: for sequence in held_out.wanted() {
            let count = sequence.tokens.len().saturating_sub(1);
            for start in (0..count).step_by(self.context()) {
                let end = count.min(start + self.context());
                let answers = sequence.tokens[start + 1..=end].iter().zip(&sequence.learnt[start + 1..=end]);
                let targets: Vec<u32> = answers
                    .map(|(token, learnt)| if *learnt && spend(&mut left) { *token } else { IGNORE_INDEX })
                    .collect();
                if targets.iter().any(|target| *target != IGNORE_INDEX) {
                    batch.push((sequence.tokens[start..end].to_vec(), targets));
                }
                if batch.len() == SEQUENCES_PER_BATCH {
                    self.add_padded(&mut totals, &batch)?;
                    batch.clear();
                }
                if left == 0 {
                    break 'sequences;
                }
            }
        }
        self.add_padded(&mut totals, &batch)?;
        if totals.tokens == 0 {
            return Err(Error::Data("its masks name no token to predict".to_owned()));
        }
        Ok(totals)
    }

    /// Sequences of unequal length; padding follows the shorter ones, where nothing attends to it.
    fn add_padded(&self, totals: &mut Totals, batch: &[(Vec<u32>, Vec<u32>)]) -> Result<(), Error> {
        let Some(time) = batch.iter().map(|(inputs, _)| inputs.len()).max() else { return Ok(()) };
        let (mut tokens, mut targets) = (Vec::new(), Vec::new());
        for (number, (inputs, wanted)) in (1..).zip(batch) {
            tokens.extend_from_slice(inputs);
            tokens.resize(number * time, 0);
            targets.extend_from_slice(wanted);
            targets.resize(number * time, IGNORE_INDEX);
        }
        self.add(totals, &tokens, &targets, &BatchLayout::new(batch.len(), time))
    }

    fn add(
        &self,
        totals: &mut Totals,
        tokens: &[u32],
        targets: &[u32],
        rows: &BatchLayout,
    ) -> Result<(), Error> {
        let losses = self.compute.run(|| self.model.token_losses(tokens, targets, rows))?;
        for (target, loss) in targets.iter().zip(losses).filter(|(target, _)| **target != IGNORE_INDEX) {
            totals.model += f64::from(loss);
            totals.unigram += self.surprise[*target as usize];
            totals.bytes += u64::from(self.byte_lengths[*target as usize]);
            totals.tokens += 1;
        }
        Ok(())
    }
}

/// Takes one, if any is left.
fn spend(left: &mut u64) -> bool {
    let before = *left;
    *left = before.saturating_sub(1);
    before > 0
}

#[derive(Default)]
struct Totals {
    tokens: u64,
    bytes: u64,
    /// In nats, as `unigram`.
    model: f64,
    unigram: f64,
}

impl Totals {
    fn conclude(&self, measured: MeasuredTokens, vocab: usize) -> Result<Evaluation, Error> {
        if self.bytes == 0 {
            return Err(Error::Data("the tokens stand for no text".to_owned()));
        }
        if !self.model.is_finite() {
            return Err(Error::Data(format!("the model's loss is {}", self.model)));
        }
        let per_byte = |nats: f64| nats / std::f64::consts::LN_2 / self.bytes as f64;
        let (model, unigram) = (per_byte(self.model), per_byte(self.unigram));
        Ok(Evaluation {
            measured,
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

/// Each token's cost in nats by its frequency, with one added to each count.
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
    use muster_data::documents::Entry;
    use muster_data::shard::{DocumentKind, Sequence, ShardIndex, ShardWriter};

    fn model() -> Decoder {
        let config = ModelConfig {
            vocab_size: 4,
            hidden_size: 16,
            intermediate_size: 8,
            max_position_embeddings: 3,
            ..ModelConfig::default()
        };
        Decoder::trained(config.clone(), &initial(&config, 1)).expect("builds")
    }

    #[test]
    fn baselines_agree_with_a_count_by_hand() {
        let compute = Compute::new(1).expect("starts");
        let held_out = Corpus::new(vec![shard(&[1, 1, 2, 0, 3, 1, 0], 4)]).expect("joins");
        // Counts 1, 5, 2, 0 become 2/12, 6/12, 3/12, 1/12; tokens of 0, 1, 2 and 3 bytes.
        let found =
            evaluate(&model(), &held_out, 99, &[1, 5, 2, 0], &[0, 1, 2, 3], &compute).expect("measures");
        assert_eq!((found.tokens, found.bytes), (6, 1 + 2 + 3 + 1));
        let probabilities = [6.0f64, 3.0, 2.0, 1.0, 6.0, 2.0];
        let bits: f64 = probabilities.iter().map(|p| -(p / 12.0).log2()).sum();
        assert!((found.unigram_bits_per_byte - bits / 7.0).abs() < 1e-12);
        assert!((found.uniform_bits_per_byte - 12.0 / 7.0).abs() < 1e-12);
        assert!(
            (found.model_bits_per_byte - 12.0 / 7.0).abs() < 0.2,
            "an untrained model guesses: {found:?}"
        );
        assert_eq!(found.gain_over_unigram, 1.0 - found.model_bits_per_byte / found.unigram_bits_per_byte);

        let fewer =
            evaluate(&model(), &held_out, 3, &[1, 5, 2, 0], &[0, 1, 2, 3], &compute).expect("measures");
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
            let losses =
                model.token_losses(&window[..time], &window[1..], &BatchLayout::new(1, time)).expect("runs");
            nats += losses.iter().map(|x| f64::from(*x)).sum::<f64>();
        }
        assert_eq!(found.tokens, 199);
        assert!((found.model_loss - nats / 199.0).abs() < 1e-6);
    }

    /// Two conversations and a preference between them; `learnt` is the second half of each sequence.
    fn conversations() -> Corpus {
        let index = ShardIndex {
            name: "s".to_owned(),
            vocab_size: 4,
            tokenizer: "t".to_owned(),
            ..ShardIndex::default()
        };
        let mut writer = ShardWriter::of(index);
        let entry = Entry { path: "p".to_owned(), hash: "h".to_owned(), bytes: 1, ..Entry::default() };
        let half = |tokens: &[u32]| Sequence {
            tokens: tokens.to_vec(),
            learnt: (0..tokens.len()).map(|at| at * 2 >= tokens.len()).collect(),
        };
        writer.push(&entry, DocumentKind::Chat, &[half(&[1, 2, 3, 0])]).expect("fits");
        writer.push(&entry, DocumentKind::Preference, &[half(&[2, 1]), half(&[2, 3])]).expect("fits");
        // Longer than the context of 3.
        writer.push(&entry, DocumentKind::Chat, &[half(&[0, 1, 1, 2, 3, 1])]).expect("fits");
        Corpus::new(vec![writer.finish().expect("is sound")]).expect("joins")
    }

    #[test]
    fn of_data_with_masks_answers_alone_are_measured_each_given_its_own_sequence() {
        let (compute, model, held_out) = (Compute::new(1).expect("starts"), model(), conversations());
        assert_eq!(held_out.counts(), [1, 2, 1, 2], "of what is to be given");
        let found =
            evaluate(&model, &held_out, 99, &[1, 5, 2, 0], &[0, 1, 2, 3], &compute).expect("measures");
        // 3 and 0 of the first, 1 of the chosen, 2, 3 and 1 of the last.
        assert_eq!(
            (found.measured, found.tokens, found.bytes),
            (MeasuredTokens::Answers, 6, 3 + 1 + 2 + 3 + 1)
        );
        let mut nats = 0f64;
        for (given, wanted) in
            [(&[1, 2][..], 3), (&[1, 2, 3], 0), (&[2], 1), (&[0, 1, 1], 2), (&[2], 3), (&[2, 3], 1)]
        {
            let mut targets = vec![IGNORE_INDEX; given.len() - 1];
            targets.push(wanted);
            nats += f64::from(
                *model
                    .token_losses(given, &targets, &BatchLayout::new(1, given.len()))
                    .expect("runs")
                    .last()
                    .expect("is one"),
            );
        }
        assert!(
            (found.model_loss - nats / 6.0).abs() < 1e-6,
            "{} instead of {}",
            found.model_loss,
            nats / 6.0
        );
        let bits: f64 = [1.0f64, 2.0, 6.0, 3.0, 1.0, 6.0].iter().map(|p| -(p / 12.0).log2()).sum();
        assert!((found.unigram_bits_per_byte - bits / 10.0).abs() < 1e-12);

        let fewer = evaluate(&model, &held_out, 4, &[1, 5, 2, 0], &[0, 1, 2, 3], &compute).expect("measures");
        assert_eq!((fewer.tokens, fewer.bytes), (4, 3 + 1 + 2));
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
