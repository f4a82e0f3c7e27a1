//! `eval`: bits per byte on held-out text, or on held-out answers, against two baselines over the same
//! tokens, and samples.

use crate::error::Error;
use crate::launch::compute;
use crate::model::{corpus, data_set, tokenizer, trained};
use crate::params::Params;
use muster_attempt::Attempt;
use muster_data::shard::Sequence;
use muster_data::tokenizer::Tokenizer;
use muster_llm::eval::{Evaluation, MeasuredTokens, evaluate};
use muster_llm::generate::{Completion, Generator, Sampling};
use muster_llm::train::Corpus;
use muster_protocol::ids::Digest;
use muster_protocol::training::EVAL;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes of each text that the output holds, as JSON has them: an output is short. The artifact has all.
const SHOWN_BYTES: usize = 160;
/// Held-out questions that are answered as samples.
const ANSWERS: usize = 3;
/// The default prompt of a sample.
const PROMPT: &str = "pub fn ";

/// Parameters of `eval`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalParams {
    /// Held-out tokens to measure on, at most; of data with masks, those that are learnt from.
    #[schemars(range(min = 2, max = 1_099_511_627_776_u64))]
    pub tokens_max: u64,
    /// Tokens of the sample.
    #[schemars(range(min = 1, max = 4096))]
    pub sample_tokens: usize,
    /// The prompt of the sample; empty: `pub fn `, or, of data with masks, held-out questions.
    pub prompt: String,
    /// Temperature of the sample; 0 takes the likeliest token.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub temperature: f64,
    /// The sample draws from that many of the likeliest tokens; 0: from all.
    #[schemars(range(max = 1_048_576))]
    pub top_k: usize,
    /// The stage that ran `data.manifest`.
    pub manifest_stage: String,
    /// The stage that ran `train`.
    pub train_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for EvalParams {
    fn default() -> EvalParams {
        EvalParams {
            tokens_max: 20_000,
            sample_tokens: 96,
            prompt: String::new(),
            temperature: 0.8,
            top_k: 40,
            manifest_stage: "manifest".to_owned(),
            train_stage: "train".to_owned(),
            seed: 1,
        }
    }
}

impl Params for EvalParams {}

/// A sample.
#[derive(Serialize)]
struct Sample {
    prompt: String,
    /// The data's answer, if the prompt is a held-out question.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    completion: Completion,
}

/// The artifact.
#[derive(Serialize)]
struct EvalReport<'a> {
    checkpoint: Digest,
    evaluation: &'a Evaluation,
    sampling: &'a Sampling,
    samples: &'a [Sample],
}

/// The output, and the record `eval`.
#[derive(Serialize)]
struct EvalOutput<'a> {
    checkpoint: Digest,
    report: Digest,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    prompt: String,
    sample: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
}

/// Runs the stage's only task.
pub fn run(attempt: &mut Attempt, params: &EvalParams) -> Result<(), Error> {
    let data = data_set(attempt, &params.manifest_stage)?;
    let trained = trained(attempt, &params.train_stage)?;
    let tokenizer = tokenizer(&attempt.artifacts, &data)?;
    let held_out = corpus(&attempt.artifacts, &data.held_out)?;
    let counts = corpus(&attempt.artifacts, &data.train)?.counts();
    let compute = compute(attempt)?;
    let model = trained.open(&attempt.artifacts)?;
    let evaluation =
        evaluate(&model, &held_out, params.tokens_max, &counts, tokenizer.byte_lengths(), &compute)?;
    let of = match evaluation.measured {
        MeasuredTokens::Text => "tokens",
        MeasuredTokens::Answers => "tokens of answers, given their questions",
    };
    attempt.say(&format!(
        "held out: {} {of}; {} bytes; in bits per byte: model {:.3}, unigram {:.3}, uniform {:.3}",
        evaluation.tokens,
        evaluation.bytes,
        evaluation.model_bits_per_byte,
        evaluation.unigram_bits_per_byte,
        evaluation.uniform_bits_per_byte
    ));

    let sampling = Sampling {
        temperature: params.temperature,
        top_k: params.top_k,
        tokens_max: params.sample_tokens,
        one_line: false,
        seed: params.seed,
    };
    let generator = Generator::of(model)?;
    let samples = if params.prompt.is_empty() && evaluation.measured == MeasuredTokens::Answers {
        compute.run(|| answers(&generator, &tokenizer, &held_out, &sampling))?
    } else {
        let prompt = if params.prompt.is_empty() { PROMPT } else { &params.prompt }.to_owned();
        let completion = compute.run(|| generator.complete(&tokenizer, &prompt, &sampling))?;
        vec![Sample { prompt, reference: None, completion }]
    };
    for sample in &samples {
        attempt.say(&match &sample.reference {
            None => format!("a sample:\n{}{}", sample.prompt, sample.completion.text),
            Some(reference) => format!(
                "a held-out question, the model's answer, and the data's:\n{}\n  {}\n  {}",
                sample.prompt.trim_end(),
                sample.completion.text.trim_end(),
                reference.trim_end()
            ),
        });
    }

    let report = EvalReport {
        checkpoint: trained.checkpoint,
        evaluation: &evaluation,
        sampling: &sampling,
        samples: &samples,
    };
    let report = attempt.put_json(&report)?;
    let first = samples.first();
    let output = EvalOutput {
        checkpoint: trained.checkpoint,
        report,
        evaluation: &evaluation,
        prompt: first.map(|sample| shown(&sample.prompt)).unwrap_or_default(),
        sample: first.map(|sample| shown(&sample.completion.text)).unwrap_or_default(),
        reference: first.and_then(|sample| sample.reference.as_deref().map(shown)),
    };
    attempt.record(EVAL, 1, report, &evaluation, true)?;
    Ok(attempt.output(&output)?)
}

/// The model's answers to the first held-out questions.
fn answers(
    generator: &Generator,
    tokenizer: &Tokenizer,
    held_out: &Corpus,
    sampling: &Sampling,
) -> Result<Vec<Sample>, Error> {
    let mut samples = Vec::new();
    for sequence in held_out.wanted() {
        let Some((question, answer)) = question(&sequence) else { continue };
        let (Some((end, answer)), prompt) = (answer.split_last(), tokenizer.decode(question)?) else {
            continue;
        };
        let completion = generator.answer(tokenizer, question, *end, sampling)?;
        samples.push(Sample { prompt, reference: Some(tokenizer.decode(answer)?), completion });
        if samples.len() == ANSWERS {
            break;
        }
    }
    Ok(samples)
}

/// The tokens before the first answer of a sequence, and that answer with its end mark; `None` if
/// one is empty.
fn question(sequence: &Sequence) -> Option<(&[u32], &[u32])> {
    let start = sequence.learnt.iter().position(|learnt| *learnt).filter(|start| *start > 0)?;
    let length =
        sequence.learnt[start..].iter().position(|learnt| !learnt).unwrap_or(sequence.learnt.len() - start);
    Some((&sequence.tokens[..start], &sequence.tokens[start..start + length]))
}

/// The beginning of a text, without control characters that a terminal would obey.
fn shown(text: &str) -> String {
    let mut left = SHOWN_BYTES;
    let fits = |c: &char| {
        let bytes = if matches!(c, '\n' | '"' | '\\') { 2 } else { c.len_utf8() };
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    };
    text.chars().filter(|c| *c == '\n' || !c.is_control()).take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short_as_json_whatever_it_is() {
        for text in ["x".repeat(999), "\u{1f600}\"\n\\".repeat(99), "caf\u{e9}\u{7}".to_owned()] {
            let shown = shown(&text);
            let json = serde_json::to_string(&shown).unwrap();
            assert!(json.len() <= SHOWN_BYTES + 2 && !shown.contains('\u{7}'), "{json}");
            assert!(text.len() < SHOWN_BYTES || json.len() > SHOWN_BYTES - 4, "{json}");
        }
    }

    #[test]
    fn a_question_ends_where_the_first_answer_begins() {
        let of = |learnt: &str| {
            let sequence = Sequence {
                tokens: (0..).take(learnt.len()).collect(),
                learnt: learnt.chars().map(|c| c == 'a').collect(),
            };
            question(&sequence).map(|(question, answer)| (question.to_vec(), answer.to_vec()))
        };
        assert_eq!(of("qqaaq"), Some((vec![0, 1], vec![2, 3])));
        assert_eq!(of("qaqaa"), Some((vec![0], vec![1])));
        assert_eq!(of("qaa"), Some((vec![0], vec![1, 2])));
        assert_eq!((of("aaq"), of("qq")), (None, None));
    }
}
