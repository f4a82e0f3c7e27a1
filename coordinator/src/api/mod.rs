//! The HTTP API: the only entry for people and programs. `docs/api.md` specifies it.
//!
//! A request that only the leader can answer is forwarded to it, one hop. Reads of the replica run on its own
//! thread and are short; reads of the ledger run on blocking threads, without the replica.

mod app_state;
mod caller;
mod command;
mod error;
mod events;
mod forward;
mod history;
mod jobs;
mod logs;
mod replay;
mod request;
mod sse;
mod status;
mod tails;
mod workers;

pub use app_state::Backend;
pub use tails::TailReaders;

use app_state::AppState;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use caller::header;
use error::ApiError;
use muster_host::listener::BoundedListener;
use std::sync::Arc;
use tokio::net::TcpListener;
use tracing::Instrument;

/// Connections at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 1024;

/// Serves until this coordinator shuts down, and then finishes the requests in progress.
pub async fn serve(listener: TcpListener, backend: Backend) -> std::io::Result<()> {
    let app = Arc::new(AppState::new(backend)?);
    let shutdown = {
        let app = Arc::clone(&app);
        async move { app.shutdown().await }
    };
    axum::serve(BoundedListener::new(listener, CONNECTIONS_MAX), router(app))
        .with_graceful_shutdown(shutdown)
        .await
}

fn router(app: Arc<AppState>) -> Router {
    let of_the_leader = Router::new()
        .route("/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/v1/jobs/{job}", get(jobs::detail))
        .route("/v1/jobs/{job}/tasks", get(jobs::tasks))
        .route("/v1/jobs/{job}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{job}/retry", post(jobs::retry))
        .route("/v1/workers", get(workers::list))
        .route("/v1/workers/{worker}/drain", post(workers::drain))
        .route("/v1/tasks/{task}/logs", get(logs::follow))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), forward::to_the_leader));
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/health", get(status::health))
        .route("/v1/events", get(events::events))
        .route("/v1/replay", get(replay::replay))
        .merge(of_the_leader)
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(middleware::from_fn(admit))
        .with_state(app)
}

/// Gives each request a span, and bounds its body.
async fn admit(request: Request, next: Next) -> Response {
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        request = header(request.headers(), caller::KEY),
        trace = header(request.headers(), caller::TRACE),
    );
    let admitted = async {
        let request = bounded(request).await?;
        Ok::<_, ApiError>(next.run(request).await)
    };
    let response = admitted.instrument(span.clone()).await.unwrap_or_else(IntoResponse::into_response);
    let status = response.status().as_u16();
    span.in_scope(|| tracing::debug!(status, "answered"));
    response
}

async fn bounded(request: Request) -> Result<Request, ApiError> {
    if request.method() == Method::GET {
        return Ok(request);
    }
    let (head, body) = request.into_parts();
    let bytes = request::read_body(body).await?;
    Ok(Request::from_parts(head, Body::from(bytes)))
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::invalid(
        "method",
        format!("{} is not allowed for {}; see docs/api.md", request.method(), request.uri().path()),
    )
}

async fn unknown_path(request: Request) -> ApiError {
    ApiError::unknown(format!("there is no {}; see docs/api.md", request.uri().path()))
}
