//! This coordinator's own status, never forwarded to the leader.

use super::app_state::AppState;
use super::error::ApiError;
use axum::Json;
use axum::extract::State;
use muster_protocol::view::StatusView;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// A coordinator whose replica does not answer within this time is unhealthy.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

pub async fn status(State(app): State<Arc<AppState>>) -> Result<Json<StatusView>, ApiError> {
    let mut status = app.read_state(|replica| replica.status()).await?;
    status.bus = app.backend.bus.describe();
    let (sent, dropped) = &app.backend.peer_counters;
    let peers =
        [("peer_sent", sent.load(Ordering::Relaxed)), ("peer_dropped", dropped.load(Ordering::Relaxed))];
    let counters = peers.into_iter().chain(app.backend.bus.counters());
    status.counters.extend(counters.map(|(name, count)| (name.to_string(), count)));
    Ok(Json(status))
}

pub async fn health(
    State(app): State<Arc<AppState>>,
) -> Result<Json<BTreeMap<&'static str, String>>, ApiError> {
    if *app.backend.shutting_down.borrow() {
        return Err(ApiError::no_leader("this coordinator is ending"));
    }
    let read = timeout(
        HEALTH_TIMEOUT,
        app.backend.replica.read(|replica| (replica.role(), replica.halted().map(str::to_string))),
    );
    let (role, halted) = read.await.map_err(|_| ApiError::overloaded("the replica does not answer"))??;
    match halted {
        Some(reason) => Err(ApiError::internal(reason)),
        None => Ok(Json(BTreeMap::from([
            ("role", role.word().to_string()),
            ("coordinator", app.backend.me.name.clone()),
        ]))),
    }
}
