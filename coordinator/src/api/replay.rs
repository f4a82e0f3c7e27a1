//! A replay of this coordinator's own ledger, on a thread of its own: the same fold as everywhere, far from
//! the core.

use super::complaint::Complaint;
use super::{Door, caller};
use crate::replay::{Options, ReplayError, Until, online};
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use muster_protocol::view::ReplayView;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReplayQuery {
    until: Option<String>,
    verify: bool,
    from_snapshot: bool,
}

/// The replay.
pub async fn replay(State(shared): Door, uri: Uri) -> Result<Json<ReplayView>, Complaint> {
    let query: ReplayQuery = caller::query(&uri)?;
    let until = query.until.as_deref().filter(|until| !until.is_empty()).map(str::parse::<Until>).transpose();
    let until = until.map_err(|error| Complaint::invalid("until", error.to_string()))?;
    let options = Options { until, verify: query.verify, from_snapshot: query.from_snapshot };
    let turn = Arc::clone(&shared.replays).acquire_owned().await;
    let fold = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        online(&shared.api.me.name, &shared.api.cluster, &shared.api.ledger, options)
    });
    let view = fold.await.map_err(|error| Complaint::internal(format!("the replay failed: {error}")))?;
    Ok(Json(view?))
}

impl From<ReplayError> for Complaint {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::TooEarly { .. } => Complaint::invalid("until", error.to_string()),
            ReplayError::Store(_)
            | ReplayError::Disk(_)
            | ReplayError::Chain { .. }
            | ReplayError::Malformed { .. }
            | ReplayError::Snapshot(_)
            | ReplayError::Incomplete { .. } => Complaint::internal(error.to_string()),
        }
    }
}
