//! Events, as a list or as they happen. Those who follow read the ledger themselves, each at its own pace:
//! nothing is kept for them, so a slow one holds nobody, and none misses anything.

use super::complaint::Complaint;
use super::history::{self, HistoryError, Page};
use super::{Door, Shared, caller, ended};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use muster_protocol::ids::{JobId, LogIndex};
use muster_protocol::view::EventView;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};

/// Events in a list, unless asked otherwise.
const EVENTS: usize = 1_000;
/// At most.
const EVENTS_MAX: usize = 10_000;
/// Events that one follower's connection may have waiting.
const FOLLOWED_MAX: usize = 256;
/// A comment is sent when nothing else is, so that both sides notice when the other is gone.
const COMMENT_INTERVAL: Duration = Duration::from_secs(5);
/// After a look, followers take what else has come meanwhile.
const GATHER: Duration = Duration::from_millis(5);
/// The ledger is looked at again even if nobody said that it grew: gaps in it are filled silently.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EventsQuery {
    from: Option<u64>,
    job: Option<JobId>,
    limit: Option<usize>,
    follow: bool,
}

/// Where a follower is: after this event, or before everything from an index on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    index: u64,
    /// Events of that entry below this ordinal were sent before.
    ordinal: u32,
}

impl Cursor {
    /// After the event with this id: `index.ordinal`.
    fn after(id: &str) -> Option<Cursor> {
        let (index, ordinal) = id.split_once('.')?;
        Some(Cursor { index: index.parse().ok()?, ordinal: ordinal.parse::<u32>().ok()?.checked_add(1)? })
    }
}

/// Events of this coordinator's ledger.
pub async fn events(State(shared): Door, headers: HeaderMap, uri: Uri) -> Result<Response, Complaint> {
    let query: EventsQuery = caller::query(&uri)?;
    let from = query.from.unwrap_or(1);
    if query.follow {
        let resumed = match headers.get("last-event-id") {
            None => None,
            Some(id) => {
                let cursor = id.to_str().ok().and_then(Cursor::after);
                Some(cursor.ok_or_else(|| {
                    Complaint::invalid("Last-Event-ID", "it must be INDEX.ORDINAL, as the events' own ids")
                })?)
            }
        };
        let cursor = resumed.unwrap_or(Cursor { index: from, ordinal: 0 });
        let place = shared.place_for_a_stream()?;
        let (sender, receiver) = mpsc::channel(FOLLOWED_MAX);
        tokio::spawn(follow(shared, cursor, query.job, sender, place));
        return Ok(stream_of(receiver).into_response());
    }
    let limit = query.limit.unwrap_or(EVENTS).clamp(1, EVENTS_MAX);
    let page = shared.read_history(from, query.job, limit).await?;
    Ok(Json(page.events).into_response())
}

/// Server-sent events from a channel, with comments in between.
pub(super) fn stream_of(
    receiver: mpsc::Receiver<Event>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|event| (Ok(event), receiver))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(COMMENT_INTERVAL).text("alive"))
}

/// A document as a server-sent event.
pub(super) fn event_of(document: &impl Serialize) -> Event {
    Event::default()
        .json_data(document)
        .unwrap_or_else(|error| Event::default().event("error").data(error.to_string()))
}

/// The last event of a stream that cannot go on.
pub(super) fn complaint_of(complaint: &Complaint) -> Event {
    event_of(&complaint.view).event("error")
}

impl Shared {
    /// A place among the streams.
    pub(super) fn place_for_a_stream(&self) -> Result<OwnedSemaphorePermit, Complaint> {
        let place = Arc::clone(&self.streams).try_acquire_owned();
        place.map_err(|_| Complaint::overloaded("too many streams are open; ask another coordinator"))
    }

    /// A page of the ledger.
    async fn read_history(&self, from: u64, job: Option<JobId>, limit: usize) -> Result<Page, Complaint> {
        let turn = Arc::clone(&self.ledger_reads).acquire_owned().await;
        let ledger = self.api.ledger.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            history::read(&ledger, from, job, limit)
        });
        let read =
            read.await.map_err(|error| Complaint::internal(format!("reading the ledger failed: {error}")))?;
        Ok(read?)
    }
}

impl From<HistoryError> for Complaint {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Missing { .. } => {
                Complaint { status: StatusCode::SERVICE_UNAVAILABLE, ..Complaint::unknown(error.to_string()) }
            }
            HistoryError::Disk(_) | HistoryError::Block { .. } => Complaint::internal(error.to_string()),
        }
    }
}

async fn follow(
    shared: Arc<Shared>,
    mut cursor: Cursor,
    job: Option<JobId>,
    sender: mpsc::Sender<Event>,
    _place: OwnedSemaphorePermit,
) {
    let mut applied = shared.api.applied.clone();
    loop {
        // Marked as seen before the look: what is applied during it leads to another.
        applied.mark_unchanged();
        let page = match shared.read_history(cursor.index, job, FOLLOWED_MAX).await {
            Ok(page) => page,
            Err(complaint) => {
                // An error means that nobody follows any more.
                let _ = sender.send(complaint_of(&complaint)).await;
                return;
            }
        };
        for event in page.events {
            if event.index == LogIndex(cursor.index) && event.ordinal < cursor.ordinal {
                continue;
            }
            if sender.send(told(&event)).await.is_err() {
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
            () = ended(shared.api.ending.clone()) => return,
            () = sender.closed() => return,
            _ = timeout(LOOK_INTERVAL, applied.changed()) => sleep(GATHER).await,
        }
    }
}

fn told(event: &EventView) -> Event {
    event_of(event).id(format!("{}.{}", event.index, event.ordinal))
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
