//! `agent.plan`: a planner of plain code, no model. It splits "complete these held-out lines" into subtasks
//! that join the running job: for each line one that samples candidates and one that judges them, and one
//! that joins all verdicts.

use super::lines::{self, Candidate};
use crate::attempt::Attempt;
use crate::error::Error;
use crate::model::{data_set, shards, tokenizer};
use muster_data::shard::{Shard, Span};
use muster_data::tokenizer::Tokenizer;
use muster_protocol::spec::{ChildSpec, TaskNumber, TaskRef};
use serde::Serialize;

/// The nonces of what changes the job: the same in every attempt, so that a planner that is started again
/// plans nothing twice.
const ADD: u64 = 1;
const SEAL_FIRST: u64 = 2;

/// What a subtask is told.
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

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let data = data_set(attempt)?;
    let tokenizer = tokenizer(&attempt.artifacts, &data)?;
    let held_out = shards(&attempt.artifacts, &data.held_out)?;
    let wanted = attempt.params.size("lines");
    let (context, seed) = (attempt.params.size("context_bytes"), attempt.params.whole("seed"));

    let mut found: Vec<Candidate> = Vec::new();
    for shard in &held_out {
        for (path, text) in texts(shard, &tokenizer)? {
            found.extend(lines::choose(&path, &text, context, seed));
        }
    }
    found.sort_by(|a, b| (a.draw, &a.line.path).cmp(&(b.draw, &b.line.path)));
    found.truncate(wanted);
    if found.is_empty() {
        return Err(Error::Unfit("plan: no held-out line is worth completing".to_owned()));
    }
    let mut hashes = Vec::new();
    for candidate in &found {
        let line = &candidate.line;
        hashes.push(attempt.put_json(line)?.to_string());
        attempt.say(&format!("line {} of {}: {}…", line.line, line.path, line.prefix));
    }

    let keys = ["complete_stage", "verify_stage", "join_stage"];
    let mut stages = Vec::new();
    for key in keys {
        let name = attempt.params.text(key).to_owned();
        stages.push(attempt.find_stage(&name)?.stage);
    }
    let children = children(&stages, &hashes)?;
    let added = attempt.add_children(ADD, children)?;
    for (nonce, stage) in (SEAL_FIRST..).zip(&stages) {
        attempt.seal(nonce, *stage)?;
    }
    attempt.say(&format!("planned {} subtasks, from task {} on", added.count, added.first));
    attempt.output(&PlanOutput {
        planner: "plain code, no model",
        lines: found.len(),
        first_task: added.first,
        tasks: added.count,
    })
}

/// First all completions, then their verifiers, then the joiner.
fn children(stages: &[muster_protocol::ids::StageIndex], hashes: &[String]) -> Result<Vec<ChildSpec>, Error> {
    let [complete, verify, join] = stages else {
        return Err(Error::Unfit("plan: three open stages are needed".to_owned()));
    };
    let new = |index: usize| TaskRef::New(TaskNumber { index: index as u32 });
    let params = |n: usize, line: &str| {
        serde_json::to_string(&Subtask { n, line })
            .map_err(|e| Error::Unfit(format!("write a subtask as JSON: {e}")))
    };
    let lines = hashes.len();
    let mut children = Vec::with_capacity(2 * lines + 1);
    for (n, line) in hashes.iter().enumerate() {
        children.push(ChildSpec { stage: *complete, params: params(n, line)?, after: Vec::new() });
    }
    for (n, line) in hashes.iter().enumerate() {
        children.push(ChildSpec { stage: *verify, params: params(n, line)?, after: vec![new(n)] });
    }
    children.push(ChildSpec {
        stage: *join,
        params: String::new(),
        after: (lines..2 * lines).map(new).collect(),
    });
    Ok(children)
}

/// The documents of a shard, as text again: boundaries stand for none.
fn texts(shard: &Shard, tokenizer: &Tokenizer) -> Result<Vec<(String, String)>, Error> {
    let text = |document: &Span| {
        let tokens: Vec<u32> = shard.tokens_from(document.start).take(document.tokens as usize).collect();
        Ok((document.path.clone(), tokenizer.decode(&tokens)?))
    };
    shard.index().documents.iter().map(text).collect()
}
