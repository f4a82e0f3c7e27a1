//! Jobs: what there are, and what users ask of them. All of it is the leader's to say.

use super::caller::{self, Caller};
use super::complaint::Complaint;
use super::{Door, answer};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use muster_machine::views;
use muster_protocol::command::{CancelJob, Command, RetryJob, SubmitJob};
use muster_protocol::ids::JobId;
use muster_protocol::spec::JobSpec;
use muster_protocol::view::{AcceptedView, JobDetail, JobView, TaskPage};
use serde::Deserialize;

/// Jobs in a list, and tasks in a page, unless asked otherwise.
const ITEMS: usize = 100;
/// At most: a look at the core must be short.
const ITEMS_MAX: usize = 1_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    state: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct TasksQuery {
    from: u32,
    limit: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct CancelBody {
    reason: String,
}

fn limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(ITEMS).clamp(1, ITEMS_MAX)
}

fn no_such_job(job: JobId) -> Complaint {
    Complaint::unknown(format!("there is no {job}, or it ended long ago and only the ledger knows it"))
}

/// The newest jobs.
pub async fn list(State(shared): Door, uri: Uri) -> Result<Json<Vec<JobView>>, Complaint> {
    let query: ListQuery = caller::query(&uri)?;
    let jobs = shared
        .look_as_leader(move |core| views::jobs(core.state(), query.state.as_deref(), limit(query.limit)))
        .await?;
    Ok(Json(jobs))
}

/// A job with its stages.
pub async fn detail(State(shared): Door, Path(job): Path<String>) -> Result<Json<JobDetail>, Complaint> {
    let job: JobId = caller::id(&job, "job")?;
    let detail = shared.look_as_leader(move |core| views::detail(core.state(), job)).await?;
    detail.map(Json).ok_or_else(|| no_such_job(job))
}

/// A page of a job's tasks.
pub async fn tasks(
    State(shared): Door,
    Path(job): Path<String>,
    uri: Uri,
) -> Result<Json<TaskPage>, Complaint> {
    let job: JobId = caller::id(&job, "job")?;
    let query: TasksQuery = caller::query(&uri)?;
    let count = u32::try_from(limit(query.limit)).unwrap_or(u32::MAX);
    let page = shared.look_as_leader(move |core| views::tasks(core.state(), job, query.from, count)).await?;
    page.map(Json).ok_or_else(|| no_such_job(job))
}

/// A new job.
pub async fn submit(
    State(shared): Door,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<AcceptedView>, Complaint> {
    let caller = Caller::of(&headers)?;
    let spec: JobSpec = caller::json(&body)?;
    answer::to(&shared, caller, Command::SubmitJob(SubmitJob { spec }), body.len(), None).await
}

/// An end to a job.
pub async fn cancel(
    State(shared): Door,
    Path(job): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<AcceptedView>, Complaint> {
    let job: JobId = caller::id(&job, "job")?;
    let caller = Caller::of(&headers)?;
    let CancelBody { reason } = caller::json_or_default(&body)?;
    answer::to(&shared, caller, Command::CancelJob(CancelJob { job, reason }), body.len(), Some(job)).await
}

/// Another try for a job's failed and cancelled tasks.
pub async fn retry(
    State(shared): Door,
    Path(job): Path<String>,
    headers: HeaderMap,
) -> Result<Json<AcceptedView>, Complaint> {
    let job: JobId = caller::id(&job, "job")?;
    let caller = Caller::of(&headers)?;
    answer::to(&shared, caller, Command::RetryJob(RetryJob { job }), 0, Some(job)).await
}
