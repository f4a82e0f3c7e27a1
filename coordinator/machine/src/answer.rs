//! Answers to what running attempts ask, from the state alone.

use crate::state::{Job, State};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use muster_protocol::attempt_call::{
    CallAnswer, CallRequest, FindStage, Found, KeyedRecord, Outputs, Records, StageOutputs, TaskOutput,
    TaskProgress,
};
use muster_protocol::ids::{AttemptId, StageIndex, TaskId};
use muster_protocol::outcome::{Outcome, Succeeded};
use muster_protocol::rejection::{Detail, Rejection};

/// An answer at most, so that it fits into a message.
const ANSWER_BYTES_MAX: usize = 512 << 10;
/// What an output or a record takes beside its text, about.
const ITEM_BYTES: usize = 64;
/// One answer looks at this many places of a stage at most.
const PLACES_MAX: u32 = 65_536;

/// The answer to a question; `None` for one that changes something, which becomes a command instead.
pub fn answer(state: &State, attempt: AttemptId, request: &CallRequest) -> Option<CallAnswer> {
    let answer = match request {
        CallRequest::AddChildren(_) | CallRequest::Seal(_) => return None,
        CallRequest::StageOutputs(_) | CallRequest::TaskProgress(_) | CallRequest::FindStage(_)
            if !state.is_live(attempt) =>
        {
            let message = format!("{attempt} does not run, or not any more");
            return Some(CallAnswer::Rejected(Rejection::Stale(Detail { message })));
        }
        CallRequest::StageOutputs(ask) => stage_outputs(state, attempt, ask),
        CallRequest::TaskProgress(ask) => task_progress(state, attempt, ask),
        CallRequest::FindStage(ask) => find_stage(state, attempt, ask),
    };
    Some(answer.unwrap_or_else(|message| CallAnswer::Rejected(Rejection::Unknown(Detail { message }))))
}

fn job(state: &State, attempt: AttemptId) -> Result<&Job, String> {
    let id = attempt.task.job;
    state.job(id).ok_or_else(|| format!("there is no {id}"))
}

fn stage_named(job: &Job, name: &str) -> Result<usize, String> {
    job.spec
        .stages
        .iter()
        .position(|stage| stage.name == name)
        .ok_or_else(|| format!("{} has no stage `{name}`", job.id))
}

fn stage_outputs(state: &State, attempt: AttemptId, ask: &StageOutputs) -> Result<CallAnswer, String> {
    let job = job(state, attempt)?;
    let stage = stage_named(job, &ask.stage)?;
    let end = job.stage_tasks(stage);
    let mut outputs = Vec::new();
    let mut bytes = 0;
    for place in ask.from..end {
        let Some(index) = job.number_at(stage, place) else { continue };
        if place - ask.from >= PLACES_MAX {
            return Ok(CallAnswer::Outputs(Outputs { outputs, next: Some(place) }));
        }
        // A rank that succeeded before its gang has is not done yet.
        let outcome = job.ended_tasks.get(&index).and_then(|ended| ended.history.outcome.as_ref());
        let Some(Outcome::Succeeded(Succeeded { output })) = outcome else { continue };
        bytes += output.len() + ITEM_BYTES;
        if bytes > ANSWER_BYTES_MAX {
            return Ok(CallAnswer::Outputs(Outputs { outputs, next: Some(place) }));
        }
        outputs.push(TaskOutput { task: TaskId { job: job.id, index }, output: output.clone() });
    }
    Ok(CallAnswer::Outputs(Outputs { outputs, next: None }))
}

/// Records in the order of their keys, as many as fit.
fn task_progress(state: &State, attempt: AttemptId, ask: &TaskProgress) -> Result<CallAnswer, String> {
    let job = job(state, attempt)?;
    if ask.task.job != job.id || ask.task.index >= job.task_count() {
        return Err(format!("{} is no task of {}", ask.task, job.id));
    }
    let mut records = Vec::new();
    let mut bytes = 0;
    let progress = job.progress.get(&ask.task.index);
    let from = progress.into_iter().flat_map(|progress| progress.range(ask.prefix.clone()..));
    for (key, one) in from.take_while(|(key, _)| key.starts_with(&ask.prefix)) {
        bytes += key.len() + one.body.len() + ITEM_BYTES;
        if bytes > ANSWER_BYTES_MAX {
            break;
        }
        records.push(KeyedRecord {
            key: key.clone(),
            seq: one.seq,
            payload_hash: one.payload_hash,
            body: one.body.clone(),
        });
    }
    Ok(CallAnswer::Records(Records { records }))
}

fn find_stage(state: &State, attempt: AttemptId, ask: &FindStage) -> Result<CallAnswer, String> {
    let job = job(state, attempt)?;
    let stage = stage_named(job, &ask.name)?;
    let tasks = job.stage_tasks(stage);
    let first_task = job.number_at(stage, 0).filter(|_| tasks > 0).unwrap_or(0);
    Ok(CallAnswer::Found(Found { stage: StageIndex(stage as u16), tasks, first_task }))
}
