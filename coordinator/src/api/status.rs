//! How this coordinator stands: its own view, never passed on.

use super::Door;
use super::complaint::Complaint;
use axum::Json;
use axum::extract::State;
use muster_protocol::view::StatusView;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// A coordinator whose replica does not answer within this time does not serve.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// The status.
pub async fn status(State(shared): Door) -> Result<Json<StatusView>, Complaint> {
    let mut status = shared.look(|core| core.status()).await?;
    status.bus = shared.api.bus.words();
    let (sent, dropped) = &shared.api.peer_counters;
    let peers =
        [("peer_sent", sent.load(Ordering::Relaxed)), ("peer_dropped", dropped.load(Ordering::Relaxed))];
    let counters = peers.into_iter().chain(shared.api.bus.counters());
    status.counters.extend(counters.map(|(name, count)| (name.to_string(), count)));
    Ok(Json(status))
}

/// Whether it serves.
pub async fn health(State(shared): Door) -> Result<Json<BTreeMap<&'static str, String>>, Complaint> {
    if *shared.api.ending.borrow() {
        return Err(Complaint::no_leader("this coordinator is ending"));
    }
    let look = timeout(
        HEALTH_TIMEOUT,
        shared.api.inlet.read(|core| (core.role(), core.halted().map(str::to_string))),
    );
    let (role, halted) = look.await.map_err(|_| Complaint::overloaded("the replica does not answer"))??;
    match halted {
        Some(reason) => Err(Complaint::internal(reason)),
        None => Ok(Json(BTreeMap::from([
            ("role", role.word().to_string()),
            ("coordinator", shared.api.me.name.clone()),
        ]))),
    }
}
