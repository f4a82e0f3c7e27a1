//! Workers: what there are, and whether they get new work.

use super::caller::{self, Caller};
use super::complaint::Complaint;
use super::{Door, answer};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use muster_machine::views;
use muster_protocol::command::{Command, DrainWorker};
use muster_protocol::ids::WorkerId;
use muster_protocol::view::{AcceptedView, WorkerView};
use serde::Deserialize;

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

/// All workers.
pub async fn list(State(shared): Door) -> Result<Json<Vec<WorkerView>>, Complaint> {
    Ok(Json(shared.look_as_leader(|core| views::workers(core.state())).await?))
}

/// No new work for a worker, or work again.
pub async fn drain(
    State(shared): Door,
    Path(worker): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<AcceptedView>, Complaint> {
    let worker: WorkerId = caller::id(&worker, "worker")?;
    let caller = Caller::of(&headers)?;
    let DrainBody { drain } = caller::json_or_default(&body)?;
    answer::to(&shared, caller, Command::DrainWorker(DrainWorker { worker, drain }), body.len(), None).await
}
