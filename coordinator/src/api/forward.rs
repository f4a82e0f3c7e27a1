//! Forwards requests that only the leader can answer to it, one hop, and streams its answer back.

use super::app_state::AppState;
use super::caller;
use super::error::ApiError;
use crate::handle::LeaderStatus;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use muster_protocol::ids::RaftId;
use muster_protocol::limits::{COMMIT_TIMEOUT_MS, HTTP_BODY_BYTES_MAX};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Marks a forwarded request with the name of the coordinator that forwarded it. It is not forwarded again.
pub const HOP: &str = "x-muster-hop";
/// A leader answers sooner, even if the outcome is unknown.
const HEADERS_TIMEOUT: Duration = Duration::from_millis(COMMIT_TIMEOUT_MS + 4_000);
/// The headers of a request that are forwarded.
const FORWARDED: [&str; 7] =
    ["accept", "content-type", "last-event-id", caller::KEY, caller::ACTOR, caller::TRACE, caller::CLIENT];

/// Serves the request here if this coordinator leads, and forwards it otherwise.
pub async fn to_the_leader(State(app): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    if app.leads() {
        return next.run(request).await;
    }
    forward(app, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn forward(app: Arc<AppState>, request: Request) -> Result<Response, ApiError> {
    let me = &app.backend.me.name;
    if request.headers().contains_key(HOP) {
        return Err(ApiError::no_leader(format!("{me} was taken for the leader, but does not lead")));
    }
    let leader = app.backend.leader_status.borrow().leader;
    let leader = leader.and_then(|leader| app.backend.members.iter().find(|member| member.raft_id == leader));
    let leader = leader
        .ok_or_else(|| ApiError::no_leader("there is no leader now; ask again, or another coordinator"))?;
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, HTTP_BODY_BYTES_MAX)
        .await
        .map_err(|_| ApiError::too_large(HTTP_BODY_BYTES_MAX))?;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = HeaderMap::new();
    for name in FORWARDED {
        if let Some(value) = head.headers.get(name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(HOP, HeaderValue::from_str(me).map_err(|error| ApiError::internal(error.to_string()))?);
    let sent = app
        .client
        .request(head.method.clone(), format!("http://{}{path}", leader.http))
        .headers(headers)
        .body(body)
        .send();
    // Give up a leader that hangs as soon as another one leads.
    let replaced = replaced(app.backend.leader_status.clone(), leader.raft_id);
    let answer = tokio::select! {
        answer = timeout(HEADERS_TIMEOUT, sent) => answer.map_err(|_| leader_lost(&head.method, &leader.name, "it does not answer"))?,
        () = replaced => return Err(leader_lost(&head.method, &leader.name, "it leads no more")),
    };
    let answer = answer.map_err(|error| {
        if error.is_connect() {
            ApiError::no_leader(format!("the leader {} cannot be reached; nothing was done", leader.name))
        } else {
            leader_lost(&head.method, &leader.name, &error.to_string())
        }
    })?;
    let mut response = Response::builder().status(answer.status());
    for name in [header::CONTENT_TYPE, header::CACHE_CONTROL] {
        if let Some(value) = answer.headers().get(&name) {
            response = response.header(name, value.clone());
        }
    }
    let body = Body::from_stream(
        answer
            .bytes_stream()
            .take_until(Box::pin(self::replaced(app.backend.leader_status.clone(), leader.raft_id))),
    );
    response.body(body).map_err(|error| ApiError::internal(error.to_string()))
}

/// Waits until that member no longer leads, as far as this one knows.
async fn replaced(mut standing: watch::Receiver<LeaderStatus>, leader: RaftId) {
    // An error means that the replica has ended.
    let _ = standing.wait_for(|standing| standing.leader != Some(leader)).await;
}

fn leader_lost(method: &Method, leader: &str, why: &str) -> ApiError {
    if method == Method::GET {
        ApiError::no_leader(format!("the leader {leader} was lost: {why}"))
    } else {
        ApiError::timed_out(format!(
            "the leader {leader} was lost ({why}); it is not known whether it was done; send the same request again"
        ))
    }
}
