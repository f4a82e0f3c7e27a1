//! `agent.plan`: a planner of plain code, no model. It splits "complete these held-out lines" into subtasks
//! that join the running job: for each line one that samples candidates and one that judges them, and one
//! that joins all verdicts.

use super::AgentError;
use super::lines::{self, Candidate};
use crate::error::Error;
use crate::model::{data_set, shards, tokenizer};
use crate::params::Params;
use muster_attempt::Attempt;
use muster_data::shard::{Shard, Span};
use muster_data::tokenizer::Tokenizer;
use muster_protocol::ids::StageIndex;
use muster_protocol::spec::{ChildSpec, TaskNumber, TaskRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The nonces of what changes the job: the same in every attempt, so that a planner that is started again
/// plans nothing twice.
const ADD: u64 = 1;
const SEAL_FIRST: u64 = 2;

/// Parameters of `agent.plan`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanParams {
    /// Held-out lines to complete.
    #[schemars(range(min = 1, max = 500))]
    pub lines: usize,
    /// Text before the line that the model sees, at most.
    #[schemars(range(max = 65_536))]
    pub context_bytes: usize,
    /// The open stage of `agent.complete`.
    pub complete_stage: String,
    /// The open stage of `agent.verify`.
    pub verify_stage: String,
    /// The open stage of `agent.join`.
    pub join_stage: String,
    /// The stage that ran `data.manifest`.
    pub manifest_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for PlanParams {
    fn default() -> PlanParams {
        PlanParams {
            lines: 8,
            context_bytes: 400,
            complete_stage: "complete".to_owned(),
            verify_stage: "verify".to_owned(),
            join_stage: "join".to_owned(),
            manifest_stage: "manifest".to_owned(),
            seed: 1,
        }
    }
}

impl Params for PlanParams {}

/// The parameters of a subtask.
#[derive(Serialize)]
struct Subtask<'a> {
    n: usize,
    line: &'a str,
}

#[derive(Serialize)]
struct PlanOutput {
    planner: &'static str,
    lines: usize,
    first_task: u32,
    tasks: u32,
}

/// Runs the stage's only task.
pub fn run(attempt: &mut Attempt, params: &PlanParams) -> Result<(), Error> {
    let data = data_set(attempt, &params.manifest_stage)?;
    let tokenizer = tokenizer(&attempt.artifacts, &data)?;
    let held_out = shards(&attempt.artifacts, &data.held_out)?;

    let mut found: Vec<Candidate> = Vec::new();
    for shard in &held_out {
        for (path, text) in texts(shard, &tokenizer)? {
            found.extend(lines::choose(&path, &text, params.context_bytes, params.seed));
        }
    }
    found.sort_by(|a, b| (a.draw, &a.line.path).cmp(&(b.draw, &b.line.path)));
    found.truncate(params.lines);
    if found.is_empty() {
        return Err(AgentError::NoLines.into());
    }
    let mut hashes = Vec::new();
    for candidate in &found {
        let line = &candidate.line;
        hashes.push(attempt.put_json(line)?.to_string());
        attempt.say(&format!("line {} of {}: {}…", line.line, line.path, line.prefix));
    }

    let stages = [
        attempt.find_stage(&params.complete_stage)?.stage,
        attempt.find_stage(&params.verify_stage)?.stage,
        attempt.find_stage(&params.join_stage)?.stage,
    ];
    let children = children(stages, &hashes)?;
    let added = attempt.add_children(ADD, children)?;
    for (nonce, stage) in (SEAL_FIRST..).zip(stages) {
        attempt.seal(nonce, stage)?;
    }
    attempt.say(&format!("planned {} subtasks, from task {} on", added.count, added.first));
    let output = PlanOutput {
        planner: "plain code, no model",
        lines: found.len(),
        first_task: added.first,
        tasks: added.count,
    };
    Ok(attempt.output(&output)?)
}

/// First all completions, then their verifiers, then the joiner.
fn children(
    [complete, verify, join]: [StageIndex; 3],
    hashes: &[String],
) -> Result<Vec<ChildSpec>, AgentError> {
    let new = |index: usize| TaskRef::New(TaskNumber { index: index as u32 });
    let params =
        |n: usize, line: &str| serde_json::to_string(&Subtask { n, line }).map_err(AgentError::Subtask);
    let lines = hashes.len();
    let mut children = Vec::with_capacity(2 * lines + 1);
    for (n, line) in hashes.iter().enumerate() {
        children.push(ChildSpec { stage: complete, params: params(n, line)?, after: Vec::new() });
    }
    for (n, line) in hashes.iter().enumerate() {
        children.push(ChildSpec { stage: verify, params: params(n, line)?, after: vec![new(n)] });
    }
    children.push(ChildSpec {
        stage: join,
        params: String::new(),
        after: (lines..2 * lines).map(new).collect(),
    });
    Ok(children)
}

/// The documents of a shard, as text again; boundaries have none.
fn texts(shard: &Shard, tokenizer: &Tokenizer) -> Result<Vec<(String, String)>, Error> {
    let text = |document: &Span| {
        let tokens: Vec<u32> = shard.tokens_from(document.start).take(document.tokens as usize).collect();
        Ok((document.path.clone(), tokenizer.decode(&tokens)?))
    };
    shard.index().documents.iter().map(text).collect()
}
