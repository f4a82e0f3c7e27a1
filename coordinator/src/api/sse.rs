//! Server-sent events from a channel.

use super::error::ApiError;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;

/// A comment is sent when nothing else is, so that both sides notice when the other is gone.
const COMMENT_INTERVAL: Duration = Duration::from_secs(5);

/// A stream of the events in a channel, with comments in between.
pub fn stream(receiver: mpsc::Receiver<Event>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|event| (Ok(event), receiver))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(COMMENT_INTERVAL).text("alive"))
}

/// An event whose data is a JSON document.
pub fn json_event(document: &impl Serialize) -> Event {
    Event::default()
        .json_data(document)
        .unwrap_or_else(|error| Event::default().event("error").data(error.to_string()))
}

/// The last event of a stream that failed.
pub fn error_event(error: &ApiError) -> Event {
    json_event(&error.view).event("error")
}
