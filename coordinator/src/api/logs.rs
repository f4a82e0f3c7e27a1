//! The output of an attempt as its worker sends it. It is requested with credit, so that a slow reader stops
//! the worker and fills no queue.

use super::app_state::AppState;
use super::error::ApiError;
use super::tails::TailReader;
use super::{request, sse};
use crate::handle::LeaderStatus;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use muster_machine::views;
use muster_protocol::bus::{LogChunk, Stream};
use muster_protocol::ids::{AttemptId, RequestId, TaskId};
use muster_protocol::view::LogView;
use muster_replica::{Input, Replica, Role};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

const TOO_MANY: &str = "too much output is being read; ask again later";
/// Credit of a tail.
const WINDOW_BYTES: u64 = 256 << 10;
/// How often a reader checks whether more output can come.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A worker that should send something but is silent for this long does not answer.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Events queued for one connection.
const EVENTS_MAX: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LogsQuery {
    stream: Option<String>,
    offset: u64,
    follow: bool,
}

#[derive(Clone, Debug)]
struct TaskStatus {
    /// The newest attempt.
    attempt: Option<AttemptId>,
    started: bool,
}

fn task_status(replica: &Replica, task: TaskId) -> Option<TaskStatus> {
    let view = views::tasks(replica.state(), task.job, task.index, 1)?
        .tasks
        .into_iter()
        .next()
        .filter(|view| view.id == task)?;
    Some(TaskStatus {
        attempt: view.attempt,
        // A task between two attempts shows its last one.
        started: !["waiting", "queued", "assigned"].contains(&view.state.as_str()),
    })
}

/// The output of a task's newest attempt, or of the attempt in the path.
pub async fn follow(
    State(app): State<Arc<AppState>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let query: LogsQuery = request::query(&uri)?;
    let stream = query.stream.as_deref().unwrap_or("stdout");
    let stream: Stream =
        stream.parse().map_err(|_| ApiError::invalid("stream", "it must be stdout or stderr"))?;
    let (task, named) = match name.parse::<AttemptId>() {
        Ok(attempt) => (attempt.task, Some(attempt)),
        Err(_) => (request::id::<TaskId>(&name, "task")?, None),
    };
    let status = app.read_as_leader(move |replica| task_status(replica, task)).await?;
    let status = status.ok_or_else(|| ApiError::unknown(format!("there is no {task}")))?;
    if named > status.attempt {
        return Err(ApiError::unknown(format!("there is no {name} yet")));
    }
    let permit = app.stream_permit()?;
    let reader = app.reader().ok_or_else(|| ApiError::overloaded(TOO_MANY))?;
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let spec = TailSpec { task, named, stream, follow: query.follow };
    tokio::spawn(read(app, spec, query.offset, reader, sender, permit));
    Ok(sse::stream(receiver).into_response())
}

#[derive(Clone, Copy)]
struct TailSpec {
    task: TaskId,
    named: Option<AttemptId>,
    stream: Stream,
    follow: bool,
}

async fn read(
    app: Arc<AppState>,
    spec: TailSpec,
    offset: u64,
    mut reader: TailReader,
    sender: mpsc::Sender<Event>,
    _permit: OwnedSemaphorePermit,
) {
    let work = async {
        let attempt = match wait_for_start(&app, spec).await {
            Ok(attempt) => attempt,
            Err(last) => return drop(sender.send(sse::json_event(&last.at(spec.stream, offset))).await),
        };
        let mut text = TextDecoder { attempt, stream: spec.stream, offset, held: Vec::new() };
        if let Err(last) = pump(&app, spec, &mut text, &mut reader, &sender).await {
            // An error means that the reader is gone.
            let _ = sender.send(sse::json_event(&last.at(spec.stream, text.received()))).await;
        }
    };
    tokio::select! {
        () = work => {}
        // Without a final event: the client continues at the next leader, from where it is.
        () = deposed(app.backend.leader_status.clone()) => {}
        () = app.shutdown() => {}
        () = sender.closed() => {}
    }
    app.close(&reader);
}

/// Waits until this coordinator no longer leads.
async fn deposed(mut standing: watch::Receiver<LeaderStatus>) {
    // An error means that the replica has ended.
    let _ = standing.wait_for(|standing| standing.role != Role::Leader).await;
}

/// Why no more output comes.
struct FinalError {
    attempt: AttemptId,
    error: String,
}

impl FinalError {
    fn at(self, stream: Stream, offset: u64) -> LogView {
        LogView {
            attempt: self.attempt,
            stream,
            offset,
            next: offset,
            text: String::new(),
            end: true,
            error: self.error,
        }
    }
}

/// The attempt to read; if the reader follows, waits until it has started.
async fn wait_for_start(app: &AppState, spec: TailSpec) -> Result<AttemptId, FinalError> {
    let mut applied = app.backend.applied.clone();
    loop {
        applied.mark_unchanged();
        let task = spec.task;
        let status = app.read_state(move |replica| task_status(replica, task)).await.ok().flatten();
        let newest = status.as_ref().and_then(|status| status.attempt);
        let attempt = spec.named.or(newest);
        let none = AttemptId { task, epoch: 0 };
        let Some(status) = status else {
            return Err(FinalError {
                attempt: attempt.unwrap_or(none),
                error: format!("{task} is not known any more"),
            });
        };
        match attempt {
            Some(attempt) if status.started || newest != Some(attempt) => return Ok(attempt),
            attempt if !spec.follow => {
                return Err(FinalError {
                    attempt: attempt.unwrap_or(none),
                    error: format!("{task} has not started"),
                });
            }
            _ => {}
        }
        // A start is an applied entry; the interval is for a task that the state forgets.
        let _ = timeout(CHECK_INTERVAL, applied.changed()).await;
    }
}

impl AppState {
    /// A reader with a new tail.
    fn reader(&self) -> Option<TailReader> {
        self.backend.tails.open(RequestId(uuid::Uuid::now_v7().as_u128()))
    }

    fn close(&self, reader: &TailReader) {
        // On an error the replica is gone, and the tail with it; or it is overloaded, and the tail runs out
        // of credit.
        let _ = self.backend.replica.notify(Input::CloseTail { id: reader.id });
    }
}

async fn pump(
    app: &AppState,
    spec: TailSpec,
    text: &mut TextDecoder,
    reader: &mut TailReader,
    sender: &mpsc::Sender<Event>,
) -> Result<(), FinalError> {
    let mut look = interval(CHECK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut granted_from, mut heard, mut was_gap) = (None, Instant::now(), false);
    loop {
        if granted_from.is_none_or(|from| text.received() >= from + WINDOW_BYTES / 2) {
            let more = Input::OpenTail {
                id: reader.id,
                attempt: text.attempt,
                stream: text.stream,
                offset: text.received(),
                follow: spec.follow,
                credit_bytes: WINDOW_BYTES,
            };
            if app.backend.replica.notify(more).is_ok() {
                granted_from = Some(text.received());
            }
        }
        let chunk = tokio::select! {
            Some(chunk) = reader.chunks.recv() => chunk,
            _ = look.tick() => {
                if let Some(error) = silent(app, spec, text.attempt, heard).await {
                    return Err(FinalError { attempt: text.attempt, error });
                }
                continue;
            }
        };
        heard = Instant::now();
        if chunk.offset > text.received() && !chunk.bytes.is_empty() && !was_gap {
            // A chunk found no room here. The replica never goes back, so request what is missing as a new
            // tail. If it does not come then, it is gone at the worker too.
            app.close(reader);
            let again = app.reader();
            *reader =
                again.ok_or_else(|| FinalError { attempt: text.attempt, error: TOO_MANY.to_string() })?;
            (granted_from, was_gap) = (None, true);
            continue;
        }
        was_gap = false;
        if chunk.end
            && !chunk.error.is_empty()
            && !app.read_state(|replica| replica.is_serving()).await.unwrap_or_default()
        {
            // Not the end of the output, only of this coordinator's leadership.
            return Ok(());
        }
        if let Some(view) = text.take(chunk) {
            let end = view.end;
            if sender.send(sse::json_event(&view)).await.is_err() || end {
                return Ok(());
            }
        }
    }
}

/// The error if the attempt's worker should have sent something. For a lost worker the replica says so
/// itself.
async fn silent(app: &AppState, spec: TailSpec, attempt: AttemptId, heard: Instant) -> Option<String> {
    if heard.elapsed() < SILENCE_MAX {
        return None;
    }
    let task = spec.task;
    let status = app.read_state(move |replica| task_status(replica, task)).await.ok().flatten()?;
    let expected = !spec.follow || status.attempt != Some(attempt);
    expected.then(|| format!("the worker of {attempt} does not answer"))
}

/// Makes text of chunks: in order, without repeats, and without cut characters.
struct TextDecoder {
    attempt: AttemptId,
    stream: Stream,
    /// Where the held bytes begin.
    offset: u64,
    /// The beginning of a character whose rest has not arrived.
    held: Vec<u8>,
}

impl TextDecoder {
    fn received(&self) -> u64 {
        self.offset + self.held.len() as u64
    }

    /// The text that a chunk completes, if any.
    fn take(&mut self, chunk: LogChunk) -> Option<LogView> {
        if chunk.offset > self.received() && !chunk.bytes.is_empty() {
            // The bytes in between are gone at the worker, and with them the rest of a character.
            (self.offset, self.held) = (chunk.offset, Vec::new());
        }
        let known = usize::try_from(self.received().saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
        self.held.extend_from_slice(chunk.bytes.get(known..).unwrap_or_default());
        let whole = if chunk.end { self.held.len() } else { whole_characters(&self.held) };
        if whole == 0 && !chunk.end {
            return None;
        }
        let rest = self.held.split_off(whole);
        let said = std::mem::replace(&mut self.held, rest);
        let offset = self.offset;
        self.offset += said.len() as u64;
        Some(LogView {
            attempt: self.attempt,
            stream: self.stream,
            offset,
            next: self.offset,
            text: String::from_utf8_lossy(&said).into_owned(),
            end: chunk.end,
            error: chunk.error,
        })
    }
}

/// The length of `bytes` without an incomplete character at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let needs = match bytes[bytes.len() - back] {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x00..=0x7f | 0xf8..=0xff => 1,
        };
        return if needs > back { bytes.len() - back } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(offset: u64, bytes: &[u8], end: bool) -> LogChunk {
        LogChunk {
            tail: RequestId::NIL,
            attempt: AttemptId::default(),
            offset,
            bytes: bytes.to_vec(),
            end,
            error: String::new(),
        }
    }

    #[test]
    fn characters_are_not_cut_and_offsets_are_bytes() {
        let whole = "aé€𝄞z".as_bytes();
        for step in 1..=whole.len() {
            let mut text = TextDecoder {
                attempt: AttemptId::default(),
                stream: Stream::Stdout,
                offset: 0,
                held: Vec::new(),
            };
            let (mut said, mut next) = (String::new(), 0);
            for (n, bytes) in whole.chunks(step).enumerate() {
                if let Some(view) = text.take(chunk((n * step) as u64, bytes, false)) {
                    assert_eq!(view.offset, next);
                    next = view.next;
                    said += &view.text;
                }
            }
            assert_eq!((said.as_str(), next), ("aé€𝄞z", whole.len() as u64), "in steps of {step}");
        }
    }

    #[test]
    fn repeated_bytes_are_dropped_and_invalid_ones_replaced() {
        let mut text = TextDecoder {
            attempt: AttemptId::default(),
            stream: Stream::Stdout,
            offset: 0,
            held: Vec::new(),
        };
        assert_eq!(text.take(chunk(0, b"abc", false)).unwrap().text, "abc");
        assert_eq!(text.take(chunk(0, b"abc", false)), None);
        assert_eq!(text.take(chunk(1, b"bcd\xe2\x82", false)).unwrap().text, "d");
        let last = text.take(chunk(6, b"", true)).unwrap();
        assert_eq!((last.text.as_str(), last.offset, last.next, last.end), ("\u{fffd}", 4, 6, true));
        assert_eq!(whole_characters(b"\x80\x80\x80\x80"), 4);
    }
}
