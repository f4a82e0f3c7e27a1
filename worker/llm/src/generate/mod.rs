//! Seeded sampling from a model, one token at a time, with cached keys and values.

mod cached;
mod sampling;

pub use sampling::Sampling;

use crate::model::{Decoder, ModelConfig};
use cached::{CachedModel, KvCache};
use muster_data::tokenizer::Tokenizer;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sampling::sample_token;
use serde::{Deserialize, Serialize};

/// What can fail in sampling.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The tokenizer refused.
    #[error(transparent)]
    Data(#[from] muster_data::Error),
    /// The parameters contradict each other.
    #[error("use the parameters: {0}")]
    Parameters(String),
}

/// What was sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The tokens, without the prompt and without the token that ended them.
    pub tokens: Vec<u32>,
    /// Their text; if `one_line`, up to the end of the line.
    pub text: String,
    /// Sum of the tokens' log-probabilities in nats, by the model itself (at temperature 1, over all tokens).
    pub logprob: f64,
    /// Why it ended.
    pub ended: FinishReason,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// At the end of a line.
    Line,
    /// At the end of a document.
    Boundary,
    /// At the token that ends an answer.
    Answer,
    /// At `tokens_max`.
    Limit,
}

/// A model ready to sample from.
pub struct Generator {
    model: CachedModel,
}

impl Generator {
    /// A model of `config` with the weights of a flat vector, for instance of
    /// [`crate::train::checkpoint::model`].
    ///
    /// # Errors
    /// When the configuration is inconsistent or the vector does not fit it.
    pub fn new(config: ModelConfig, flat: &[f32]) -> Result<Self, Error> {
        Self::of(Decoder::trained(config, flat)?)
    }

    /// Any model on the CPU, with its adapters: one of [`crate::peft::build`], or of an adapter that was
    /// read.
    ///
    /// # Errors
    /// When the model is on another device.
    pub fn of(model: Decoder) -> Result<Self, Error> {
        Ok(Self { model: CachedModel::new(model)? })
    }

    /// Continues `prompt`, on the calling thread. A prompt that leaves no room for `tokens_max` tokens is cut
    /// at its start.
    ///
    /// A prompt should not end in a space: a token includes the space before its word.
    ///
    /// # Errors
    /// When the tokenizer is not the model's, or the context has no room.
    pub fn complete(
        &self,
        tokenizer: &Tokenizer,
        prompt: &str,
        sampling: &Sampling,
    ) -> Result<Completion, Error> {
        // In training, documents follow a boundary.
        let mut seen = vec![tokenizer.eos()];
        seen.extend(tokenizer.encode(prompt)?);
        self.go_on(tokenizer, &seen, None, sampling)
    }

    /// As [`Generator::complete`], from tokens, without a boundary before them, and up to the token `end`.
    ///
    /// # Errors
    /// As [`Generator::complete`], and when there are no tokens.
    pub fn answer(
        &self,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        end: u32,
        sampling: &Sampling,
    ) -> Result<Completion, Error> {
        if prompt.is_empty() {
            return Err(Error::Parameters("a prompt without tokens has no answer".to_owned()));
        }
        self.go_on(tokenizer, prompt, Some(end), sampling)
    }

    fn go_on(
        &self,
        tokenizer: &Tokenizer,
        seen: &[u32],
        end: Option<u32>,
        sampling: &Sampling,
    ) -> Result<Completion, Error> {
        let context = self.model.context();
        if tokenizer.vocab_size() > self.model.config().vocab_size {
            return Err(Error::Parameters(format!(
                "a tokenizer of {} tokens for a model of {}",
                tokenizer.vocab_size(),
                self.model.config().vocab_size
            )));
        }
        if !(sampling.temperature.is_finite() && sampling.temperature >= 0.0) {
            return Err(Error::Parameters(format!("the temperature is {}", sampling.temperature)));
        }
        if sampling.tokens_max == 0 || sampling.tokens_max >= context {
            return Err(Error::Parameters(format!(
                "tokens_max {} is not from 1 to below the context of {context}",
                sampling.tokens_max
            )));
        }
        let seen = &seen[seen.len().saturating_sub(context - sampling.tokens_max)..];

        let mut cache = self.model.start()?;
        for token in &seen[..seen.len() - 1] {
            self.model.advance(&mut cache, *token)?;
        }
        self.sample(tokenizer, cache, (seen[seen.len() - 1], end), sampling)
    }

    fn sample(
        &self,
        tokenizer: &Tokenizer,
        mut cache: KvCache,
        (mut last, end): (u32, Option<u32>),
        sampling: &Sampling,
    ) -> Result<Completion, Error> {
        let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        let mut completion =
            Completion { tokens: Vec::new(), text: String::new(), logprob: 0.0, ended: FinishReason::Limit };
        let mut bytes = Vec::new();
        while completion.tokens.len() < sampling.tokens_max {
            let mut logits = self.model.advance(&mut cache, last)?;
            // A model may have more tokens than its tokenizer; those have no text.
            logits.truncate(tokenizer.vocab_size());
            let (token, logprob) = sample_token(&logits, sampling, &mut rng);
            completion.logprob += logprob;
            if token == tokenizer.eos() {
                completion.ended = FinishReason::Boundary;
                break;
            }
            if Some(token) == end {
                completion.ended = FinishReason::Answer;
                break;
            }
            completion.tokens.push(token);
            bytes.extend(tokenizer.decode_bytes(&[token])?);
            if sampling.one_line && bytes.contains(&b'\n') {
                completion.ended = FinishReason::Line;
                break;
            }
            last = token;
        }
        let line = if sampling.one_line {
            bytes.split(|byte| *byte == b'\n').next().unwrap_or_default()
        } else {
            &bytes
        };
        completion.text = String::from_utf8_lossy(line).into_owned();
        Ok(completion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights::initial;
    use muster_data::dedup::Selection;
    use muster_data::documents::{Body, Document, Place, Scan};
    use muster_data::tokenizer::TokenizerConfig;
    use muster_host::compute::Compute;

    fn tokenizer() -> Tokenizer {
        let body = Body::Text("let x = 1;\nlet y = 2;\n".repeat(9));
        let scan = Scan {
            documents: vec![Document::new("a".to_owned(), Place::Whole, body, false)],
            ..Scan::default()
        };
        let choice = Selection { keep: vec![vec![0]], ..Selection::default() };
        let compute = Compute::new(1).expect("starts");
        Tokenizer::train(
            &TokenizerConfig { vocab_size: 270, ..TokenizerConfig::default() },
            &[scan],
            &choice,
            &compute,
        )
        .expect("trains")
    }

    fn generator(vocab_size: usize) -> Generator {
        let config = ModelConfig {
            vocab_size,
            hidden_size: 16,
            intermediate_size: 8,
            max_position_embeddings: 32,
            initializer_range: 0.3,
            ..ModelConfig::default()
        };
        Generator::new(config.clone(), &initial(&config, 1)).expect("builds")
    }

    #[test]
    fn a_seed_gives_the_same_completion_and_another_a_different_one() {
        let (tokenizer, generator) = (tokenizer(), generator(270));
        let sample = |seed, prompt: &str| {
            let sampling = Sampling { seed, one_line: false, tokens_max: 16, temperature: 1.0, top_k: 0 };
            generator.complete(&tokenizer, prompt, &sampling).expect("samples")
        };
        let (one, again, other) = (sample(1, "let x"), sample(1, "let x"), sample(2, "let x"));
        assert_eq!(one, again);
        assert_ne!(one.tokens, other.tokens);
        assert!(one.logprob < 0.0 && one.logprob.is_finite());
        // A prompt beyond the context, and none at all.
        assert_eq!(sample(1, &"let x = 1;\n".repeat(50)), sample(1, &"let x = 1;\n".repeat(51)));
        sample(1, "");
    }

    #[test]
    fn an_answer_goes_on_from_tokens_and_ends_at_its_mark() {
        let (tokenizer, generator) = (tokenizer(), generator(270));
        let sampling = Sampling { one_line: false, tokens_max: 16, temperature: 1.0, top_k: 0, seed: 3 };
        let prompt = [&[tokenizer.eos()][..], &tokenizer.encode("let x").expect("encodes")].concat();
        let whole = generator.complete(&tokenizer, "let x", &sampling).expect("samples");
        let end = whole.tokens[5];
        let first = whole.tokens.iter().position(|token| *token == end).expect("is there");
        let answer = generator.answer(&tokenizer, &prompt, end, &sampling).expect("samples");
        assert_eq!((&answer.tokens[..], answer.ended), (&whole.tokens[..first], FinishReason::Answer));
        assert!(
            generator
                .answer(&tokenizer, &[], end, &sampling)
                .expect_err("refused")
                .to_string()
                .contains("without tokens")
        );
    }

    #[test]
    fn a_line_ends_the_completion() {
        let (tokenizer, generator) = (tokenizer(), generator(270));
        let lines = (0..40).map(|seed| {
            let sampling =
                Sampling { seed, tokens_max: 30, temperature: 2.0, top_k: 0, ..Sampling::default() };
            generator.complete(&tokenizer, "let", &sampling).expect("samples")
        });
        let mut ended = 0;
        for completion in lines {
            assert!(!completion.text.contains('\n'));
            let all = tokenizer.decode(&completion.tokens).expect("decodes");
            assert_eq!(completion.ended == FinishReason::Line, all.contains('\n'));
            assert!(all.starts_with(&completion.text));
            ended += usize::from(completion.ended == FinishReason::Line);
        }
        assert!(ended > 0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let tokenizer = tokenizer();
        let refused = |generator: &Generator, sampling| {
            generator.complete(&tokenizer, "x", &sampling).expect_err("refused").to_string()
        };
        let too_few = generator(tokenizer.vocab_size() - 1);
        assert!(
            refused(&too_few, Sampling { tokens_max: 8, ..Sampling::default() }).contains("a tokenizer of")
        );
        let generator = generator(270);
        assert!(
            refused(&generator, Sampling { tokens_max: 32, ..Sampling::default() }).contains("tokens_max 32")
        );
        assert!(
            refused(&generator, Sampling { temperature: -1.0, ..Sampling::default() })
                .contains("temperature")
        );
    }
}
