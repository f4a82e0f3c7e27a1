//! `agent.complete`: samples candidates for one line from the model that the job trained.
//!
//! Every call of the model is known by a hash of its request, and recorded with the hash of its answer before
//! the answer is used. So a subtask that is killed and started again repeats no finished call.

use crate::attempt::Attempt;
use crate::error::Error;
use crate::model::{Trained, data_set, tokenizer, trained};
use crate::wire::{Candidates, CompleteOutput, Line};
use muster_attempt::artifacts::Artifacts;
use muster_data::tokenizer::Tokenizer;
use muster_host::compute::Compute;
use muster_llm::generate::{Completion, Generator, Sampling};
use muster_protocol::ids::Digest;
use serde::Serialize;
use std::collections::BTreeMap;

/// A call of the model; its hash is its name. Whatever may change the answer stands here.
#[derive(Serialize)]
struct Request<'a> {
    checkpoint: Digest,
    tokenizer: Digest,
    prompt: Digest,
    sampling: &'a Sampling,
}

/// The body of a call's record; the payload is the answer's artifact.
#[derive(Serialize)]
struct Call {
    sample: u64,
    tokens: usize,
    logprob: f64,
}

/// The model, opened when the first call needs it: a restart that finds all calls done needs none.
struct Model<'a> {
    trained: &'a Trained,
    artifacts: &'a Artifacts,
    tokenizer: &'a Tokenizer,
    compute: Compute,
    generator: Option<Generator>,
}

impl Model<'_> {
    fn complete(&mut self, prompt: &str, sampling: &Sampling) -> Result<Completion, Error> {
        if self.generator.is_none() {
            self.generator = Some(Generator::of(self.trained.open(self.artifacts)?)?);
        }
        match &self.generator {
            Some(generator) => {
                Ok(self.compute.run(|| generator.complete(self.tokenizer, prompt, sampling))?)
            }
            None => Err(Error::Unfit("open the model".to_owned())),
        }
    }
}

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let n = attempt.params.whole("n");
    let line: Line = attempt.get_json(super::line_hash(attempt)?)?;
    let data = data_set(attempt)?;
    let trained = trained(attempt)?;
    let tokenizer = tokenizer(&attempt.artifacts, &data)?;
    let prompt = format!("{}{}", line.context, line.prefix);
    let finished = finished(attempt)?;
    let artifacts = attempt.artifacts.clone();
    let mut model = Model {
        trained: &trained,
        artifacts: &artifacts,
        tokenizer: &tokenizer,
        compute: attempt.compute()?,
        generator: None,
    };
    let (mut calls, mut reused) = (0, 0);
    let mut completions = Vec::new();
    attempt.say(&format!("line {} of {}: {}", line.line, line.path, line.prefix));
    for sample in 0..attempt.params.whole("samples") {
        let sampling = Sampling {
            temperature: attempt.params.number("temperature"),
            top_k: attempt.params.size("top_k"),
            tokens_max: attempt.params.size("line_tokens"),
            one_line: true,
            // Another draw for each line and sample, the same in every attempt.
            seed: attempt.params.whole("seed") << 32 | n << 8 | sample,
        };
        let request = Request {
            checkpoint: trained.checkpoint,
            tokenizer: data.tokenizer,
            prompt: Digest::of(prompt.as_bytes()),
            sampling: &sampling,
        };
        let key = key(&request)?;
        let completion: Completion = match finished.get(&key) {
            Some(answer) => {
                reused += 1;
                attempt.get_json(*answer)?
            }
            None => {
                calls += 1;
                let completion = model.complete(&prompt, &sampling)?;
                let answer = attempt.put_json(&completion)?;
                let body = Call { sample, tokens: completion.tokens.len(), logprob: completion.logprob };
                attempt.record(&key, 1, answer, &body, true)?;
                completion
            }
        };
        attempt.say(&format!("sample {sample}: {}", completion.text));
        completions.push(completion);
    }
    if reused > 0 {
        attempt.say(&format!("{reused} calls of an earlier attempt were not repeated"));
    }
    let candidates = attempt.put_json(&Candidates { completions })?;
    attempt.output(&CompleteOutput { n, candidates, calls, reused })
}

/// The calls that earlier attempts at this task finished, with their answers.
fn finished(attempt: &mut Attempt) -> Result<BTreeMap<String, Digest>, Error> {
    let records = attempt.progress(attempt.task(), "call/")?;
    Ok(records.into_iter().map(|record| (record.key, record.payload_hash)).collect())
}

fn key(request: &Request<'_>) -> Result<String, Error> {
    let text =
        serde_json::to_vec(request).map_err(|e| Error::Unfit(format!("write a request as JSON: {e}")))?;
    let hash = Digest::of(&text).to_string();
    Ok(format!("call/{}", hash.trim_start_matches("blake3:")))
}
