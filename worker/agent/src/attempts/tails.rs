//! Tails: sends an attempt's output as it comes, as far as the listener's credit goes.

use super::Shared;
use super::output::{self, End, Piece};
use muster_protocol::bus::{LogChunk, Stream, Tail};
use muster_protocol::ids::{AttemptId, RequestId};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// One chunk at most.
const CHUNK_BYTES_MAX: u64 = 64 << 10;
/// A tail that nobody asks for any more ends.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether an attempt that waits has started.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Tails at once at most.
const TAILS_MAX: usize = 256;

/// What a listener last asked for.
#[derive(Clone, Debug)]
struct Wish {
    /// Where its credit ends.
    limit: u64,
    /// It has asked twice from there although more was sent: that was lost.
    again_from: Option<u64>,
    follow: bool,
    alive: bool,
    heard: Instant,
    asked_from: u64,
}

/// The tails that run.
#[derive(Debug)]
pub(crate) struct Tails {
    shared: Arc<Shared>,
    chunks: mpsc::Sender<LogChunk>,
    running: BTreeMap<RequestId, watch::Sender<Wish>>,
}

impl Tails {
    pub(crate) fn new(shared: Arc<Shared>, chunks: mpsc::Sender<LogChunk>) -> Tails {
        Tails { shared, chunks, running: BTreeMap::new() }
    }

    /// Begins a tail, or gives one more credit. `alive`: the attempt waits or runs here.
    pub(crate) fn ask(&mut self, tail: Tail, alive: bool) {
        self.running.retain(|_, wish| !wish.is_closed());
        let limit = tail.offset.saturating_add(tail.credit_bytes);
        if let Some(running) = self.running.get(&tail.id) {
            running.send_modify(|wish| {
                wish.again_from = (tail.offset == wish.asked_from).then_some(tail.offset);
                *wish = Wish {
                    limit: wish.limit.max(limit),
                    follow: tail.follow,
                    alive,
                    heard: Instant::now(),
                    asked_from: tail.offset,
                    ..*wish
                };
            });
            return;
        }
        if self.running.len() >= TAILS_MAX {
            let error = format!("this worker sends {TAILS_MAX} tails already");
            // Whoever wants it asks again.
            let _ = self.chunks.try_send(last(&tail, tail.offset, error));
            return;
        }
        let wish = Wish {
            limit,
            again_from: None,
            follow: tail.follow,
            alive,
            heard: Instant::now(),
            asked_from: tail.offset,
        };
        let (sender, wishes) = watch::channel(wish);
        self.running.insert(tail.id, sender);
        let running = Running {
            shared: self.shared.clone(),
            chunks: self.chunks.clone(),
            offset: tail.offset,
            tail,
            wishes,
            seen: false,
        };
        tokio::spawn(running.send());
    }

    /// Nobody listens any more.
    pub(crate) fn end(&mut self, id: RequestId) {
        self.running.remove(&id);
    }
}

fn last(tail: &Tail, offset: u64, error: String) -> LogChunk {
    LogChunk { tail: tail.id, attempt: tail.attempt, offset, bytes: Vec::new(), end: true, error }
}

struct Running {
    shared: Arc<Shared>,
    chunks: mpsc::Sender<LogChunk>,
    tail: Tail,
    offset: u64,
    wishes: watch::Receiver<Wish>,
    /// It was seen to run.
    seen: bool,
}

impl Running {
    async fn send(mut self) {
        loop {
            let wish = self.wishes.borrow_and_update().clone();
            if self.wishes.has_changed().is_err() || wish.heard.elapsed() >= SILENCE_MAX {
                return;
            }
            if let Some(from) = wish.again_from.filter(|from| *from < self.offset) {
                self.offset = from;
            }
            // Looked at before the files are: what is written later is not missed.
            let mut watched = self.shared.output(self.tail.attempt, self.tail.stream);
            let end = watched.as_mut().map(|watched| *watched.borrow_and_update());
            let waits = wish.alive && !self.seen && end.is_none();
            self.seen |= end.is_some();
            let credit = wish.limit.saturating_sub(self.offset).min(CHUNK_BYTES_MAX);
            match self.read(credit).await {
                Ok(Piece::Bytes(bytes)) => {
                    let from = self.offset;
                    self.offset += bytes.len() as u64;
                    let chunk =
                        LogChunk { offset: from, bytes, end: false, ..last(&self.tail, from, String::new()) };
                    if self.chunks.send(chunk).await.is_err() {
                        return;
                    }
                }
                Ok(Piece::AtEnd) if credit == 0 => self.wait(&wish, None).await,
                Ok(Piece::AtEnd) => {
                    let more = match end {
                        Some(End { closed, bytes }) => !closed || bytes > self.offset,
                        None => waits,
                    };
                    if !more || !wish.follow {
                        return self.finish(String::new()).await;
                    }
                    self.wait(&wish, watched).await;
                }
                Ok(Piece::Dropped { first }) => {
                    return self.finish(format!("the output before byte {first} is not kept any more")).await;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && waits && wish.follow => {
                    self.wait(&wish, None).await
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let error = format!("no output of {} is kept at this worker", self.tail.attempt);
                    return self.finish(error).await;
                }
                Err(error) => return self.finish(error.to_string()).await,
            }
        }
    }

    async fn read(&self, bytes_max: u64) -> io::Result<Piece> {
        let (directory, stream, offset) =
            (self.shared.places(self.tail.attempt).directory, self.tail.stream, self.offset);
        if bytes_max == 0 {
            return Ok(Piece::AtEnd);
        }
        let read = move || {
            output::read(&directory, stream, offset, usize::try_from(bytes_max).unwrap_or(usize::MAX))
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self, wish: &Wish, watched: Option<watch::Receiver<End>>) {
        let more = async {
            match watched {
                Some(mut watched) => drop(watched.changed().await),
                None => sleep(LOOK_INTERVAL).await,
            }
        };
        tokio::select! {
            _ = self.wishes.changed() => {}
            () = more => {}
            () = sleep_until(wish.heard + SILENCE_MAX) => {}
        }
    }

    async fn finish(self, error: String) {
        // The bus is gone only when the program ends.
        let _ = self.chunks.send(last(&self.tail, self.offset, error)).await;
    }
}

/// How far both streams of the attempts that run are.
pub(super) type Watched = BTreeMap<AttemptId, [watch::Receiver<End>; 2]>;

/// Where a stream stands in [`Watched`].
pub(super) fn place(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}
