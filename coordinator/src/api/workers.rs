//! Workers: listing and draining them.

use super::app_state::AppState;
use super::caller::Caller;
use super::command;
use super::error::ApiError;
use super::request;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use muster_machine::views;
use muster_protocol::command::{Command, DrainWorker};
use muster_protocol::ids::WorkerId;
use muster_protocol::view::{AcceptedView, WorkerView};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct DrainBody {
    drain: bool,
}

impl Default for DrainBody {
    fn default() -> Self {
        DrainBody { drain: true }
    }
}

pub async fn list(State(app): State<Arc<AppState>>) -> Result<Json<Vec<WorkerView>>, ApiError> {
    Ok(Json(app.read_as_leader(|replica| views::workers(replica.state())).await?))
}

/// Drains a worker, or undoes that.
pub async fn drain(
    State(app): State<Arc<AppState>>,
    Path(worker): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<AcceptedView>, ApiError> {
    let worker: WorkerId = request::id(&worker, "worker")?;
    let caller = Caller::from_headers(&headers)?;
    let DrainBody { drain } = request::json_or_default(&body)?;
    command::submit(&app, caller, Command::DrainWorker(DrainWorker { worker, drain }), body.len(), None).await
}
