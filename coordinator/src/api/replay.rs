//! A replay of this coordinator's own ledger, on a thread of its own, without the replica.

use super::app_state::AppState;
use super::error::ApiError;
use super::request;
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

pub async fn replay(State(app): State<Arc<AppState>>, uri: Uri) -> Result<Json<ReplayView>, ApiError> {
    let query: ReplayQuery = request::query(&uri)?;
    let until = query.until.as_deref().filter(|until| !until.is_empty()).map(str::parse::<Until>).transpose();
    let until = until.map_err(|error| ApiError::invalid("until", error.to_string()))?;
    let options = Options { until, verify: query.verify, from_snapshot: query.from_snapshot };
    let permit = Arc::clone(&app.replays).acquire_owned().await;
    let fold = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        online(&app.backend.me.name, &app.backend.cluster, &app.backend.ledger, options)
    });
    let view = fold.await.map_err(|error| ApiError::internal(format!("the replay failed: {error}")))?;
    Ok(Json(view?))
}

impl From<ReplayError> for ApiError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::TooEarly { .. } => ApiError::invalid("until", error.to_string()),
            ReplayError::Store(_)
            | ReplayError::Disk(_)
            | ReplayError::Chain { .. }
            | ReplayError::Malformed { .. }
            | ReplayError::Snapshot(_)
            | ReplayError::Incomplete { .. } => ApiError::internal(error.to_string()),
        }
    }
}
