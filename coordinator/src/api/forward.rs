//! From a follower to the leader, one hop: what only the leader can answer is passed on, and its answer
//! streamed back.

use super::complaint::Complaint;
use super::{Door, Shared, caller};
use crate::process::Standing;
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

/// Marks a request that was passed on, with the name of the coordinator that did so: it goes no further.
pub const HOP: &str = "x-muster-hop";
/// A leader answers before, even if it does not know the outcome.
const HEADERS_TIMEOUT: Duration = Duration::from_millis(COMMIT_TIMEOUT_MS + 4_000);
/// What is passed on of a request.
const PASSED_ON: [&str; 7] =
    ["accept", "content-type", "last-event-id", caller::KEY, caller::ACTOR, caller::TRACE, caller::CLIENT];

/// Serves the request here if this coordinator leads, and passes it on otherwise.
pub async fn to_the_leader(State(shared): Door, request: Request, next: Next) -> Response {
    if shared.leads() {
        return next.run(request).await;
    }
    pass_on(shared, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn pass_on(shared: Arc<Shared>, request: Request) -> Result<Response, Complaint> {
    let me = &shared.api.me.name;
    if request.headers().contains_key(HOP) {
        return Err(Complaint::no_leader(format!("{me} was taken for the leader, and does not lead")));
    }
    let leader = shared.api.standing.borrow().leader;
    let leader = leader.and_then(|leader| shared.api.members.iter().find(|member| member.raft_id == leader));
    let leader = leader
        .ok_or_else(|| Complaint::no_leader("there is no leader now; ask again, or another coordinator"))?;
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, HTTP_BODY_BYTES_MAX)
        .await
        .map_err(|_| Complaint::too_large(HTTP_BODY_BYTES_MAX))?;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = HeaderMap::new();
    for name in PASSED_ON {
        if let Some(value) = head.headers.get(name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(HOP, HeaderValue::from_str(me).map_err(|error| Complaint::internal(error.to_string()))?);
    let sent = shared
        .client
        .request(head.method.clone(), format!("http://{}{path}", leader.http))
        .headers(headers)
        .body(body)
        .send();
    // One that hangs is given up as soon as another one leads.
    let replaced = replaced(shared.api.standing.clone(), leader.raft_id);
    let answer = tokio::select! {
        answer = timeout(HEADERS_TIMEOUT, sent) => answer.map_err(|_| lost(&head.method, &leader.name, "it does not answer"))?,
        () = replaced => return Err(lost(&head.method, &leader.name, "it leads no more")),
    };
    let answer = answer.map_err(|error| {
        if error.is_connect() {
            Complaint::no_leader(format!("the leader {} cannot be reached; nothing was done", leader.name))
        } else {
            lost(&head.method, &leader.name, &error.to_string())
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
            .take_until(Box::pin(self::replaced(shared.api.standing.clone(), leader.raft_id))),
    );
    response.body(body).map_err(|error| Complaint::internal(error.to_string()))
}

/// Waits until that member leads no more, as far as this one knows.
async fn replaced(mut standing: watch::Receiver<Standing>, leader: RaftId) {
    // An error means that the replica has ended.
    let _ = standing.wait_for(|standing| standing.leader != Some(leader)).await;
}

fn lost(method: &Method, leader: &str, why: &str) -> Complaint {
    if method == Method::GET {
        Complaint::no_leader(format!("the leader {leader} was lost: {why}"))
    } else {
        Complaint::timed_out(format!(
            "the leader {leader} was lost ({why}); it is not known whether it was done; send the same request again"
        ))
    }
}
