//! `agent.complete`: samples candidates for one line from the model that the job trained.
//!
//! Every call of the model is known by a hash of its request, and recorded with the hash of its answer before
//! the answer is used. So a subtask that is killed and started again repeats no finished call.

use super::AgentError;
use crate::error::Error;
use crate::launch::compute;
use crate::model::{Trained, data_set, tokenizer, trained};
use crate::outputs::{Candidates, CompleteOutput, HeldOutLine};
use crate::params::Params;
use muster_attempt::Attempt;
use muster_attempt::artifacts::Artifacts;
use muster_data::tokenizer::Tokenizer;
use muster_host::compute::Compute;
use muster_llm::generate::{Completion, Generator, Sampling};
use muster_protocol::ids::Digest;
use muster_protocol::training::CALL_PREFIX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Parameters of `agent.complete`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompleteParams {
    /// Candidates for each line.
    #[schemars(range(min = 1, max = 64))]
    pub samples: u64,
    /// Temperature of the candidates; 0 takes the likeliest token.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub temperature: f64,
    /// Candidates are drawn from that many of the likeliest tokens; 0: from all.
    #[schemars(range(max = 1_048_576))]
    pub top_k: usize,
    /// Tokens of a candidate, at most.
    #[schemars(range(min = 1, max = 4096))]
    pub line_tokens: usize,
    /// Which line; set by `agent.plan`.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub n: u64,
    /// The artifact of the line; set by `agent.plan`.
    pub line: String,
    /// The stage that ran `data.manifest`.
    pub manifest_stage: String,
    /// The stage that ran `train`.
    pub train_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for CompleteParams {
    fn default() -> CompleteParams {
        CompleteParams {
            samples: 4,
            temperature: 0.8,
            top_k: 40,
            line_tokens: 32,
            n: 0,
            line: String::new(),
            manifest_stage: "manifest".to_owned(),
            train_stage: "train".to_owned(),
            seed: 1,
        }
    }
}

impl Params for CompleteParams {}

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
struct LazyModel<'a> {
    trained: &'a Trained,
    artifacts: &'a Artifacts,
    tokenizer: &'a Tokenizer,
    compute: Compute,
    generator: Option<Generator>,
}

impl LazyModel<'_> {
    fn complete(&mut self, prompt: &str, sampling: &Sampling) -> Result<Completion, Error> {
        let generator = match self.generator.take() {
            Some(generator) => generator,
            None => Generator::of(self.trained.open(self.artifacts)?)?,
        };
        let generator = self.generator.insert(generator);
        Ok(self.compute.run(|| generator.complete(self.tokenizer, prompt, sampling))?)
    }
}

/// Runs the task of one line.
pub fn run(attempt: &mut Attempt, params: &CompleteParams) -> Result<(), Error> {
    let n = params.n;
    let line: HeldOutLine = attempt.get_json(super::line_hash(&params.line)?)?;
    let data = data_set(attempt, &params.manifest_stage)?;
    let trained = trained(attempt, &params.train_stage)?;
    let tokenizer = tokenizer(&attempt.artifacts, &data)?;
    let prompt = format!("{}{}", line.context, line.prefix);
    let finished = finished(attempt)?;
    let artifacts = attempt.artifacts.clone();
    let mut model = LazyModel {
        trained: &trained,
        artifacts: &artifacts,
        tokenizer: &tokenizer,
        compute: compute(attempt)?,
        generator: None,
    };
    let (mut calls, mut reused) = (0, 0);
    let mut completions = Vec::new();
    attempt.say(&format!("line {} of {}: {}", line.line, line.path, line.prefix));
    for sample in 0..params.samples {
        let sampling = Sampling {
            temperature: params.temperature,
            top_k: params.top_k,
            tokens_max: params.line_tokens,
            one_line: true,
            // Another draw for each line and sample, the same in every attempt.
            seed: params.seed << 32 | n << 8 | sample,
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
    Ok(attempt.output(&CompleteOutput { n, candidates, calls, reused })?)
}

/// The calls that earlier attempts at this task finished, with their answers.
fn finished(attempt: &mut Attempt) -> Result<BTreeMap<String, Digest>, Error> {
    let records = attempt.progress(attempt.task(), CALL_PREFIX)?;
    Ok(records.into_iter().map(|record| (record.key, record.payload_hash)).collect())
}

fn key(request: &Request<'_>) -> Result<String, AgentError> {
    let text = serde_json::to_vec(request).map_err(AgentError::Request)?;
    let hash = Digest::of(&text).to_string();
    Ok(format!("{CALL_PREFIX}{}", hash.trim_start_matches("blake3:")))
}
