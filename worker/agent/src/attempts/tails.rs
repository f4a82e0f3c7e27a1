//! Tails: send an attempt's output as it is written, as far as the reader's credit allows.

use super::context::AttemptContext;
use super::output::{self, ReadOutput, StreamEnd};
use muster_protocol::bus::{LogChunk, Tail};
use muster_protocol::ids::RequestId;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

const CHUNK_BYTES_MAX: u64 = 64 << 10;
/// A tail ends after this time without a request from its reader.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How often a tail of a queued attempt checks whether it has started.
const START_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// At most this many tails run at the same time.
const TAILS_MAX: usize = 256;

/// A reader's newest request.
#[derive(Clone, Debug)]
struct TailRequest {
    /// The offset at which its credit ends.
    limit: u64,
    /// It has asked from this offset twice: what was sent from there was lost.
    resend_from: Option<u64>,
    follow: bool,
    alive: bool,
    asked_at: Instant,
    asked_from: u64,
}

#[derive(Debug)]
pub(crate) struct LogTails {
    context: Arc<AttemptContext>,
    chunks: mpsc::Sender<LogChunk>,
    running: BTreeMap<RequestId, watch::Sender<TailRequest>>,
}

impl LogTails {
    pub(crate) fn new(context: Arc<AttemptContext>, chunks: mpsc::Sender<LogChunk>) -> LogTails {
        LogTails { context, chunks, running: BTreeMap::new() }
    }

    /// Begins a tail, or gives it more credit. `alive`: the attempt is queued or runs here.
    pub(crate) fn ask(&mut self, tail: Tail, alive: bool) {
        self.running.retain(|_, request| !request.is_closed());
        let limit = tail.offset.saturating_add(tail.credit_bytes);
        if let Some(running) = self.running.get(&tail.id) {
            running.send_modify(|request| {
                request.resend_from = (tail.offset == request.asked_from).then_some(tail.offset);
                *request = TailRequest {
                    limit: request.limit.max(limit),
                    follow: tail.follow,
                    alive,
                    asked_at: Instant::now(),
                    asked_from: tail.offset,
                    ..*request
                };
            });
            return;
        }
        if self.running.len() >= TAILS_MAX {
            let error = format!("this worker sends {TAILS_MAX} tails already");
            // If there is no space for the answer, the reader asks again.
            let _ = self.chunks.try_send(last_chunk(&tail, tail.offset, error));
            return;
        }
        let request = TailRequest {
            limit,
            resend_from: None,
            follow: tail.follow,
            alive,
            asked_at: Instant::now(),
            asked_from: tail.offset,
        };
        let (sender, requests) = watch::channel(request);
        self.running.insert(tail.id, sender);
        let running = RunningTail {
            context: self.context.clone(),
            chunks: self.chunks.clone(),
            offset: tail.offset,
            tail,
            requests,
            has_run: false,
        };
        tokio::spawn(running.send());
    }

    pub(crate) fn end(&mut self, id: RequestId) {
        self.running.remove(&id);
    }
}

fn last_chunk(tail: &Tail, offset: u64, error: String) -> LogChunk {
    LogChunk { tail: tail.id, attempt: tail.attempt, offset, bytes: Vec::new(), end: true, error }
}

struct RunningTail {
    context: Arc<AttemptContext>,
    chunks: mpsc::Sender<LogChunk>,
    tail: Tail,
    offset: u64,
    requests: watch::Receiver<TailRequest>,
    /// The attempt has been seen to run.
    has_run: bool,
}

impl RunningTail {
    async fn send(mut self) {
        loop {
            let request = self.requests.borrow_and_update().clone();
            if self.requests.has_changed().is_err() || request.asked_at.elapsed() >= IDLE_MAX {
                return;
            }
            if let Some(from) = request.resend_from.filter(|from| *from < self.offset) {
                self.offset = from;
            }
            // Taken before the files are read, so that nothing written in between is missed.
            let mut stream_end = self.context.output(self.tail.attempt, self.tail.stream);
            let end = stream_end.as_mut().map(|stream_end| *stream_end.borrow_and_update());
            let waits = request.alive && !self.has_run && end.is_none();
            self.has_run |= end.is_some();
            let credit = request.limit.saturating_sub(self.offset).min(CHUNK_BYTES_MAX);
            match self.read(credit).await {
                Ok(ReadOutput::Bytes(bytes)) => {
                    let from = self.offset;
                    self.offset += bytes.len() as u64;
                    let chunk = LogChunk {
                        offset: from,
                        bytes,
                        end: false,
                        ..last_chunk(&self.tail, from, String::new())
                    };
                    if self.chunks.send(chunk).await.is_err() {
                        return;
                    }
                }
                Ok(ReadOutput::AtEnd) if credit == 0 => self.wait(&request, None).await,
                Ok(ReadOutput::AtEnd) => {
                    let more = match end {
                        Some(StreamEnd { closed, bytes }) => !closed || bytes > self.offset,
                        None => waits,
                    };
                    if !more || !request.follow {
                        return self.finish(String::new()).await;
                    }
                    self.wait(&request, stream_end).await;
                }
                Ok(ReadOutput::Removed { first }) => {
                    return self.finish(format!("the output before byte {first} has been removed")).await;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && waits && request.follow => {
                    self.wait(&request, None).await
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let error = format!("no output of {} is kept at this worker", self.tail.attempt);
                    return self.finish(error).await;
                }
                Err(error) => return self.finish(error.to_string()).await,
            }
        }
    }

    async fn read(&self, bytes_max: u64) -> io::Result<ReadOutput> {
        let (directory, stream, offset) =
            (self.context.paths(self.tail.attempt).directory, self.tail.stream, self.offset);
        if bytes_max == 0 {
            return Ok(ReadOutput::AtEnd);
        }
        let read = move || {
            output::read(&directory, stream, offset, usize::try_from(bytes_max).unwrap_or(usize::MAX))
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Waits for a request, for more output, or for the time limit.
    async fn wait(&mut self, request: &TailRequest, stream_end: Option<watch::Receiver<StreamEnd>>) {
        let more = async {
            match stream_end {
                Some(mut stream_end) => drop(stream_end.changed().await),
                None => sleep(START_POLL_INTERVAL).await,
            }
        };
        tokio::select! {
            _ = self.requests.changed() => {}
            () = more => {}
            () = sleep_until(request.asked_at + IDLE_MAX) => {}
        }
    }

    async fn finish(self, error: String) {
        // The bus is gone only when the program ends.
        let _ = self.chunks.send(last_chunk(&self.tail, self.offset, error)).await;
    }
}
