//! Events, as a list or as they happen. Each follower reads the ledger at its own pace: nothing is queued for
//! it, so a slow one delays no other, and none misses anything.

use super::app_state::AppState;
use super::error::ApiError;
use super::history::{self, HistoryError, Page};
use super::{request, sse};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::{JobId, LogIndex};
use muster_protocol::view::EventView;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};

/// Events in a list by default.
const EVENTS: usize = 1_000;
const EVENTS_MAX: usize = 10_000;
/// Events queued for one follower's connection.
const FOLLOWED_MAX: usize = 256;
/// After a change, a follower waits this long to read several entries at once.
const GATHER: Duration = Duration::from_millis(5);
/// The ledger is read again after this time even if it did not grow: backfill is not announced.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EventsQuery {
    from: Option<u64>,
    job: Option<JobId>,
    limit: Option<usize>,
    follow: bool,
}

/// The position of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    index: u64,
    /// Events of that entry below this ordinal were already sent.
    ordinal: u32,
}

impl Cursor {
    /// After the event with this id: `index.ordinal`.
    fn after(id: &str) -> Option<Cursor> {
        let (index, ordinal) = id.split_once('.')?;
        Some(Cursor { index: index.parse().ok()?, ordinal: ordinal.parse::<u32>().ok()?.checked_add(1)? })
    }
}

pub async fn events(
    State(app): State<Arc<AppState>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    let query: EventsQuery = request::query(&uri)?;
    let from = query.from.unwrap_or(1);
    if query.follow {
        let resumed = match headers.get("last-event-id") {
            None => None,
            Some(id) => {
                let cursor = id.to_str().ok().and_then(Cursor::after);
                Some(cursor.ok_or_else(|| {
                    ApiError::invalid("Last-Event-ID", "it must be INDEX.ORDINAL, as the events' own ids")
                })?)
            }
        };
        let cursor = resumed.unwrap_or(Cursor { index: from, ordinal: 0 });
        let permit = app.stream_permit()?;
        let (sender, receiver) = mpsc::channel(FOLLOWED_MAX);
        tokio::spawn(follow(app, cursor, query.job, sender, permit));
        return Ok(sse::stream(receiver).into_response());
    }
    let limit = query.limit.unwrap_or(EVENTS).clamp(1, EVENTS_MAX);
    let page = read_history(&app, from, query.job, limit).await?;
    Ok(Json(page.events).into_response())
}

/// A page of the ledger.
async fn read_history(app: &AppState, from: u64, job: Option<JobId>, limit: usize) -> Result<Page, ApiError> {
    let permit = Arc::clone(&app.ledger_reads).acquire_owned().await;
    let ledger = app.backend.ledger.clone();
    let read = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        history::read(&ledger, from, job, limit)
    });
    let read =
        read.await.map_err(|error| ApiError::internal(format!("reading the ledger failed: {error}")))?;
    Ok(read?)
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Missing { .. } => {
                ApiError { status: StatusCode::SERVICE_UNAVAILABLE, ..ApiError::unknown(error.to_string()) }
            }
            HistoryError::Disk(_) | HistoryError::Block { .. } => ApiError::internal(error.to_string()),
        }
    }
}

async fn follow(
    app: Arc<AppState>,
    mut cursor: Cursor,
    job: Option<JobId>,
    sender: mpsc::Sender<Event>,
    _permit: OwnedSemaphorePermit,
) {
    let mut applied = app.backend.applied.clone();
    loop {
        // Marked as seen before the read, so that what is applied meanwhile leads to another one.
        applied.mark_unchanged();
        let page = match read_history(&app, cursor.index, job, FOLLOWED_MAX).await {
            Ok(page) => page,
            Err(error) => {
                // An error means that the follower is gone.
                let _ = sender.send(sse::error_event(&error)).await;
                return;
            }
        };
        for event in page.events {
            if event.index == LogIndex(cursor.index) && event.ordinal < cursor.ordinal {
                continue;
            }
            if sender.send(sse_event(&event)).await.is_err() {
                return;
            }
        }
        if page.next > cursor.index {
            cursor = Cursor { index: page.next, ordinal: 0 };
        }
        if !page.at_end {
            continue;
        }
        tokio::select! {
            () = app.shutdown() => return,
            () = sender.closed() => return,
            _ = timeout(POLL_INTERVAL, applied.changed()) => sleep(GATHER).await,
        }
    }
}

fn sse_event(event: &EventView) -> Event {
    sse::json_event(event).id(format!("{}.{}", event.index, event.ordinal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_goes_on_after_the_event_that_it_names() {
        assert_eq!(Cursor::after("17.3"), Some(Cursor { index: 17, ordinal: 4 }));
        for wrong in ["", "17", "17.", ".3", "17.x", "17.4294967295", "-1.0"] {
            assert_eq!(Cursor::after(wrong), None, "{wrong}");
        }
    }
}
