//! `eval`: bits per byte on held-out text, against two baselines over the same tokens, and a sample.

use super::{
    attempt::Attempt,
    error::Error,
    model::{corpus, data_set, tokenizer, trained},
};
use muster_llm::{
    eval::{Evaluation, evaluate},
    generate::{Completion, Generator, Sampling},
    model::Decoder,
};
use muster_protocol::ids::Digest;
use serde::Serialize;

/// Characters of the sample that the output holds; the artifact has all.
const SHOWN_CHARS: usize = 160;

/// The artifact.
#[derive(Serialize)]
struct Report<'a> {
    checkpoint: Digest,
    evaluation: &'a Evaluation,
    prompt: &'a str,
    sampling: &'a Sampling,
    sample: &'a Completion,
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
}

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let data = data_set(attempt)?;
    let trained = trained(attempt)?;
    let tokenizer = tokenizer(&attempt.artifacts, &data)?;
    let held_out = corpus(&attempt.artifacts, &data.held_out)?;
    let counts = corpus(&attempt.artifacts, &data.train)?.counts();
    let compute = attempt.compute()?;
    let model = Decoder::trained(trained.config.clone(), &trained.weights)?;
    let tokens_max = attempt.params.whole("tokens_max");
    let evaluation = evaluate(&model, &held_out, tokens_max, &counts, tokenizer.byte_lengths(), &compute)?;
    attempt.say(&format!(
        "{} held-out tokens, {} bytes, in bits per byte: model {:.3}, unigram {:.3}, uniform {:.3}",
        evaluation.tokens,
        evaluation.bytes,
        evaluation.model_bits_per_byte,
        evaluation.unigram_bits_per_byte,
        evaluation.uniform_bits_per_byte
    ));

    let prompt = attempt.params.text("prompt").to_owned();
    let sampling = Sampling {
        temperature: attempt.params.number("temperature"),
        top_k: attempt.params.size("top_k"),
        tokens_max: attempt.params.size("sample_tokens"),
        one_line: false,
        seed: attempt.params.whole("seed"),
    };
    let generator = Generator::new(trained.config, &trained.weights)?;
    let sample = compute.run(|| generator.complete(&tokenizer, &prompt, &sampling))?;
    attempt.say(&format!("a sample:\n{prompt}{}", sample.text));

    let report = Report { checkpoint: trained.checkpoint, evaluation: &evaluation, prompt: &prompt, sampling: &sampling, sample: &sample };
    let report = attempt.put_json(&report)?;
    let shown = |text: &str| text.chars().take(SHOWN_CHARS).filter(|c| *c == '\n' || !c.is_control()).collect::<String>();
    let output =
        EvalOutput { checkpoint: trained.checkpoint, report, evaluation: &evaluation, prompt: shown(&prompt), sample: shown(&sample.text) };
    attempt.record("eval", 1, report, &evaluation, true)?;
    attempt.output(&output)
}
