//! Jobs: listing, submitting, cancelling and retrying them. Only the leader answers.

use super::app_state::AppState;
use super::caller::Caller;
use super::command;
use super::error::ApiError;
use super::request;
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
use std::sync::Arc;

/// Jobs in a list, and tasks in a page, by default.
const ITEMS: usize = 100;
/// A read of the replica must be short.
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

fn no_such_job(job: JobId) -> ApiError {
    ApiError::unknown(format!("there is no {job}, or it ended long ago and only the ledger knows it"))
}

/// The newest jobs.
pub async fn list(State(app): State<Arc<AppState>>, uri: Uri) -> Result<Json<Vec<JobView>>, ApiError> {
    let query: ListQuery = request::query(&uri)?;
    let jobs = app
        .read_as_leader(move |replica| {
            views::jobs(replica.state(), query.state.as_deref(), limit(query.limit))
        })
        .await?;
    Ok(Json(jobs))
}

pub async fn detail(
    State(app): State<Arc<AppState>>,
    Path(job): Path<String>,
) -> Result<Json<JobDetail>, ApiError> {
    let job: JobId = request::id(&job, "job")?;
    let detail = app.read_as_leader(move |replica| views::detail(replica.state(), job)).await?;
    detail.map(Json).ok_or_else(|| no_such_job(job))
}

/// A page of a job's tasks.
pub async fn tasks(
    State(app): State<Arc<AppState>>,
    Path(job): Path<String>,
    uri: Uri,
) -> Result<Json<TaskPage>, ApiError> {
    let job: JobId = request::id(&job, "job")?;
    let query: TasksQuery = request::query(&uri)?;
    let count = u32::try_from(limit(query.limit)).unwrap_or(u32::MAX);
    let page =
        app.read_as_leader(move |replica| views::tasks(replica.state(), job, query.from, count)).await?;
    page.map(Json).ok_or_else(|| no_such_job(job))
}

pub async fn submit(
    State(app): State<Arc<AppState>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<AcceptedView>, ApiError> {
    let caller = Caller::from_headers(&headers)?;
    let spec: JobSpec = request::json(&body)?;
    command::submit(&app, caller, Command::SubmitJob(SubmitJob { spec }), body.len(), None).await
}

pub async fn cancel(
    State(app): State<Arc<AppState>>,
    Path(job): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<AcceptedView>, ApiError> {
    let job: JobId = request::id(&job, "job")?;
    let caller = Caller::from_headers(&headers)?;
    let CancelBody { reason } = request::json_or_default(&body)?;
    command::submit(&app, caller, Command::CancelJob(CancelJob { job, reason }), body.len(), Some(job)).await
}

/// Runs a job's failed and cancelled tasks again.
pub async fn retry(
    State(app): State<Arc<AppState>>,
    Path(job): Path<String>,
    headers: HeaderMap,
) -> Result<Json<AcceptedView>, ApiError> {
    let job: JobId = request::id(&job, "job")?;
    let caller = Caller::from_headers(&headers)?;
    command::submit(&app, caller, Command::RetryJob(RetryJob { job }), 0, Some(job)).await
}
