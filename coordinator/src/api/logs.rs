//! An attempt's output, as its worker sends it: asked for piece by piece, with credit, so that a slow reader
//! stops the worker and fills no queue.

use super::complaint::Complaint;
use super::events::{event_of, stream_of};
use super::tails::Reader;
use super::{Door, Shared, caller, ended};
use crate::process::Standing;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use muster_machine::views;
use muster_protocol::bus::{LogChunk, Stream};
use muster_protocol::ids::{AttemptId, RequestId, TaskId};
use muster_protocol::view::LogView;
use muster_replica::{Core, Input, Role};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// What is said when no more output can be read.
const TOO_MANY: &str = "too much output is being read; ask again later";
/// What a worker may send before more is asked for.
const WINDOW_BYTES: u64 = 256 << 10;
/// How often it is looked whether anything can still come.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A worker that says nothing for so long, although there must be something, does not answer.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Pieces that one connection may have waiting.
const PIECES_MAX: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LogsQuery {
    stream: Option<String>,
    offset: u64,
    follow: bool,
}

/// What there is to know of an attempt before its output is asked for.
#[derive(Clone, Debug)]
struct Seen {
    attempt: Option<AttemptId>,
    started: bool,
}

fn see(core: &Core, task: TaskId) -> Option<Seen> {
    let view = views::tasks(core.state(), task.job, task.index, 1)?
        .tasks
        .into_iter()
        .next()
        .filter(|view| view.id == task)?;
    Some(Seen {
        attempt: view.attempt,
        // A task between two attempts shows its last one.
        started: !["waiting", "queued", "assigned"].contains(&view.state.as_str()),
    })
}

/// The output of a task's newest attempt, or of the attempt that is named.
pub async fn follow(State(shared): Door, Path(name): Path<String>, uri: Uri) -> Result<Response, Complaint> {
    let query: LogsQuery = caller::query(&uri)?;
    let stream = query.stream.as_deref().unwrap_or("stdout");
    let stream: Stream =
        stream.parse().map_err(|_| Complaint::invalid("stream", "it must be stdout or stderr"))?;
    let (task, named) = match name.parse::<AttemptId>() {
        Ok(attempt) => (attempt.task, Some(attempt)),
        Err(_) => (caller::id::<TaskId>(&name, "task")?, None),
    };
    let seen = shared.look_as_leader(move |core| see(core, task)).await?;
    let seen = seen.ok_or_else(|| Complaint::unknown(format!("there is no {task}")))?;
    if named > seen.attempt {
        return Err(Complaint::unknown(format!("there is no {name} yet")));
    }
    let place = shared.place_for_a_stream()?;
    let reader = shared.reader().ok_or_else(|| Complaint::overloaded(TOO_MANY))?;
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let asked = Asked { task, named, stream, follow: query.follow };
    tokio::spawn(read(shared, asked, query.offset, reader, sender, place));
    Ok(stream_of(receiver).into_response())
}

#[derive(Clone, Copy)]
struct Asked {
    task: TaskId,
    named: Option<AttemptId>,
    stream: Stream,
    follow: bool,
}

async fn read(
    shared: Arc<Shared>,
    asked: Asked,
    offset: u64,
    mut reader: Reader,
    sender: mpsc::Sender<Event>,
    _place: OwnedSemaphorePermit,
) {
    let work = async {
        let attempt = match begin(&shared, asked).await {
            Ok(attempt) => attempt,
            Err(last) => return drop(sender.send(event_of(&last.at(asked.stream, offset))).await),
        };
        let mut text = Text { attempt, stream: asked.stream, offset, held: Vec::new() };
        if let Err(last) = pump(&shared, asked, &mut text, &mut reader, &sender).await {
            // An error means that nobody reads any more.
            let _ = sender.send(event_of(&last.at(asked.stream, text.received()))).await;
        }
    };
    tokio::select! {
        () = work => {}
        // Without an end: the reader goes on at the next leader, from where it is.
        () = deposed(shared.api.standing.clone()) => {}
        () = ended(shared.api.ending.clone()) => {}
        () = sender.closed() => {}
    }
    shared.close(&reader);
}

/// Waits until this coordinator leads no more.
async fn deposed(mut standing: watch::Receiver<Standing>) {
    // An error means that the replica has ended.
    let _ = standing.wait_for(|standing| standing.role != Role::Leader).await;
}

/// Why nothing more comes.
struct Last {
    attempt: AttemptId,
    error: String,
}

impl Last {
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

/// Waits until there is an attempt that has begun, if somebody follows.
async fn begin(shared: &Shared, asked: Asked) -> Result<AttemptId, Last> {
    let mut applied = shared.api.applied.clone();
    loop {
        applied.mark_unchanged();
        let task = asked.task;
        let seen = shared.look(move |core| see(core, task)).await.ok().flatten();
        let newest = seen.as_ref().and_then(|seen| seen.attempt);
        let attempt = asked.named.or(newest);
        let none = AttemptId { task, epoch: 0 };
        let Some(seen) = seen else {
            return Err(Last {
                attempt: attempt.unwrap_or(none),
                error: format!("{task} is not known any more"),
            });
        };
        match attempt {
            Some(attempt) if seen.started || newest != Some(attempt) => return Ok(attempt),
            attempt if !asked.follow => {
                return Err(Last {
                    attempt: attempt.unwrap_or(none),
                    error: format!("{task} has not started"),
                });
            }
            _ => {}
        }
        // Whatever happens to it is applied; the interval is for a task that is forgotten.
        let _ = timeout(LOOK_INTERVAL, applied.changed()).await;
    }
}

impl Shared {
    /// A reader of a tail that nobody else knows.
    fn reader(&self) -> Option<Reader> {
        self.api.tails.open(RequestId(uuid::Uuid::now_v7().as_u128()))
    }

    /// The core forgets a tail.
    fn close(&self, reader: &Reader) {
        // An error means that the replica is gone, and the tail with it; or a tail without credit, which
        // costs nothing.
        let _ = self.api.inlet.note(Input::CloseTail { id: reader.id });
    }
}

async fn pump(
    shared: &Shared,
    asked: Asked,
    text: &mut Text,
    reader: &mut Reader,
    sender: &mpsc::Sender<Event>,
) -> Result<(), Last> {
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut granted_from, mut heard, mut was_gap) = (None, Instant::now(), false);
    loop {
        if granted_from.is_none_or(|from| text.received() >= from + WINDOW_BYTES / 2) {
            let more = Input::OpenTail {
                token: 0,
                id: reader.id,
                attempt: text.attempt,
                stream: text.stream,
                offset: text.received(),
                follow: asked.follow,
                credit_bytes: WINDOW_BYTES,
            };
            if shared.api.inlet.note(more).is_ok() {
                granted_from = Some(text.received());
            }
        }
        let piece = tokio::select! {
            Some(piece) = reader.pieces.recv() => piece,
            _ = look.tick() => {
                if let Some(error) = silent(shared, asked, text.attempt, heard).await {
                    return Err(Last { attempt: text.attempt, error });
                }
                continue;
            }
        };
        heard = Instant::now();
        if piece.offset > text.received() && !piece.bytes.is_empty() && !was_gap {
            // A piece found no room here. The core never goes back, so what is missing is asked for as a new
            // tail; if it does not come then, it is gone at the worker too.
            shared.close(reader);
            let again = shared.reader();
            *reader = again.ok_or_else(|| Last { attempt: text.attempt, error: TOO_MANY.to_string() })?;
            (granted_from, was_gap) = (None, true);
            continue;
        }
        was_gap = false;
        if piece.end
            && !piece.error.is_empty()
            && !shared.look(|core| core.is_serving()).await.unwrap_or_default()
        {
            // Not the end of the output, only of this coordinator's lead.
            return Ok(());
        }
        if let Some(view) = text.take(piece) {
            let end = view.end;
            if sender.send(event_of(&view)).await.is_err() || end {
                return Ok(());
            }
        }
    }
}

/// Why nothing can be expected of the attempt's worker, if so. Of a lost one, the core says so itself.
async fn silent(shared: &Shared, asked: Asked, attempt: AttemptId, heard: Instant) -> Option<String> {
    if heard.elapsed() < SILENCE_MAX {
        return None;
    }
    let task = asked.task;
    let seen = shared.look(move |core| see(core, task)).await.ok().flatten()?;
    let expected = !asked.follow || seen.attempt != Some(attempt);
    expected.then(|| format!("the worker of {attempt} does not answer"))
}

/// Output on its way to a reader: in order, without gaps, and without cut characters.
struct Text {
    attempt: AttemptId,
    stream: Stream,
    /// Where the held bytes begin.
    offset: u64,
    /// The beginning of a character whose rest has not come.
    held: Vec<u8>,
}

impl Text {
    fn received(&self) -> u64 {
        self.offset + self.held.len() as u64
    }

    /// What a piece gives to say, if anything.
    fn take(&mut self, piece: LogChunk) -> Option<LogView> {
        if piece.offset > self.received() && !piece.bytes.is_empty() {
            // What is between is gone at the worker; so is the rest of a character.
            (self.offset, self.held) = (piece.offset, Vec::new());
        }
        let known = usize::try_from(self.received().saturating_sub(piece.offset)).unwrap_or(usize::MAX);
        self.held.extend_from_slice(piece.bytes.get(known..).unwrap_or_default());
        let whole = if piece.end { self.held.len() } else { whole_characters(&self.held) };
        if whole == 0 && !piece.end {
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
            end: piece.end,
            error: piece.error,
        })
    }
}

/// How many of these bytes are before a character that is not there as a whole.
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

    fn piece(offset: u64, bytes: &[u8], end: bool) -> LogChunk {
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
            let mut text =
                Text { attempt: AttemptId::default(), stream: Stream::Stdout, offset: 0, held: Vec::new() };
            let (mut said, mut next) = (String::new(), 0);
            for (n, bytes) in whole.chunks(step).enumerate() {
                if let Some(view) = text.take(piece((n * step) as u64, bytes, false)) {
                    assert_eq!(view.offset, next);
                    next = view.next;
                    said += &view.text;
                }
            }
            assert_eq!((said.as_str(), next), ("aé€𝄞z", whole.len() as u64), "in steps of {step}");
        }
    }

    #[test]
    fn what_comes_twice_is_said_once_and_garbage_ends() {
        let mut text =
            Text { attempt: AttemptId::default(), stream: Stream::Stdout, offset: 0, held: Vec::new() };
        assert_eq!(text.take(piece(0, b"abc", false)).unwrap().text, "abc");
        assert_eq!(text.take(piece(0, b"abc", false)), None);
        assert_eq!(text.take(piece(1, b"bcd\xe2\x82", false)).unwrap().text, "d");
        let last = text.take(piece(6, b"", true)).unwrap();
        assert_eq!((last.text.as_str(), last.offset, last.next, last.end), ("\u{fffd}", 4, 6, true));
        assert_eq!(whole_characters(b"\x80\x80\x80\x80"), 4);
    }
}
