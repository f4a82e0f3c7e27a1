//! Outputs of attempts that clients read through this leader.
//!
//! A tail is requested from the worker again every second, from the first byte that did not arrive: so a lost
//! chunk comes again, and a tail without a reader ends by itself.

use crate::io::Output;
use crate::sessions::{Sessions, WorkerIncarnation};
use crate::worker_sender::WorkerSender;
use muster_machine::{State, views};
use muster_protocol::bus::{Down, EndTail, LogChunk, Stream, Tail};
use muster_protocol::ids::{AttemptId, RequestId, WorkerId, WorkerIdentity};
use muster_protocol::worker::Liveness;
use std::collections::BTreeMap;

const TAILS_MAX: usize = 1024;
/// How often a tail is requested from its worker.
const RESEND_MS: u64 = 1_000;
/// Bytes that have not arrived by then are not lost but gone: the worker rotates its files.
const GAP_MS: u64 = 3 * RESEND_MS;

#[derive(Clone, Copy, Debug)]
pub struct TailRequest {
    pub id: RequestId,
    pub attempt: AttemptId,
    pub stream: Stream,
    pub offset: u64,
    pub follow: bool,
    pub credit_bytes: u64,
}

#[derive(Debug)]
struct OpenTail {
    identity: WorkerIdentity,
    attempt: AttemptId,
    stream: Stream,
    follow: bool,
    /// The first byte that has not arrived.
    next: u64,
    /// The first byte beyond the credit.
    limit: u64,
    requested_ms: u64,
    gap_since_ms: Option<u64>,
}

impl OpenTail {
    fn request(
        &mut self,
        id: RequestId,
        mono_ms: u64,
        sessions: &mut Sessions,
        sender: &mut WorkerSender<'_>,
    ) {
        self.requested_ms = mono_ms;
        let Some(session) = sessions.present(self.identity) else { return };
        let incarnation = WorkerIncarnation { identity: self.identity, boot: session.boot };
        let (attempt, stream, follow) = (self.attempt, self.stream, self.follow);
        let tail = Tail {
            id,
            attempt,
            stream,
            offset: self.next,
            follow,
            credit_bytes: self.limit.saturating_sub(self.next),
        };
        sender.send(incarnation, session, Down::Tail(tail));
    }
}

#[derive(Debug, Default)]
pub struct Tails {
    open: BTreeMap<RequestId, OpenTail>,
}

impl Tails {
    /// Opens a tail, or gives more credit to one that is open.
    pub fn open(
        &mut self,
        mono_ms: u64,
        request: TailRequest,
        worker: Option<WorkerId>,
        state: &State,
        sessions: &mut Sessions,
        sender: &mut WorkerSender<'_>,
    ) {
        let limit = request.offset.saturating_add(request.credit_bytes);
        if let Some(open) = self.open.get_mut(&request.id) {
            open.next = open.next.max(request.offset);
            open.limit = open.limit.max(limit);
            return open.request(request.id, mono_ms, sessions, sender);
        }
        let worker =
            worker.or_else(|| last_worker(state, request.attempt)).and_then(|worker| state.worker(worker));
        let identity = match worker {
            _ if self.open.len() >= TAILS_MAX => Err("too many outputs are being read; try again later"),
            None => Err(
                "no worker is known to hold the output of this attempt; only a task's newest attempt can be read",
            ),
            Some(worker) if worker.liveness() == Liveness::Lost => {
                Err("the worker that holds the output is lost")
            }
            Some(worker) => Ok(worker.hello().identity),
        };
        match identity {
            Ok(identity) => {
                let TailRequest { id, attempt, stream, offset, follow, credit_bytes: _ } = request;
                let mut open = OpenTail {
                    identity,
                    attempt,
                    stream,
                    follow,
                    next: offset,
                    limit,
                    requested_ms: mono_ms,
                    gap_since_ms: None,
                };
                open.request(id, mono_ms, sessions, sender);
                self.open.insert(id, open);
            }
            Err(why) => sender.output(Output::Tail(failed(request.id, request.attempt, request.offset, why))),
        }
    }

    /// Ends a tail whose reader is gone.
    pub fn close(&mut self, id: RequestId, sessions: &mut Sessions, sender: &mut WorkerSender<'_>) {
        let Some(open) = self.open.remove(&id) else { return };
        let Some(session) = sessions.present(open.identity) else { return };
        let incarnation = WorkerIncarnation { identity: open.identity, boot: session.boot };
        sender.send(incarnation, session, Down::EndTail(EndTail { id }));
    }

    /// Passes on a piece of output: each byte once, in order.
    pub fn chunk(
        &mut self,
        mono_ms: u64,
        mut chunk: LogChunk,
        sessions: &mut Sessions,
        sender: &mut WorkerSender<'_>,
    ) {
        let id = chunk.tail;
        let Some(open) = self.open.get_mut(&id).filter(|open| open.attempt == chunk.attempt) else { return };
        if chunk.offset > open.next {
            match open.gap_since_ms {
                Some(since_ms) if mono_ms >= since_ms + GAP_MS => {}
                Some(_) => return,
                None => {
                    open.gap_since_ms = Some(mono_ms);
                    return open.request(id, mono_ms, sessions, sender);
                }
            }
        }
        let known = open.next.saturating_sub(chunk.offset).min(chunk.bytes.len() as u64);
        chunk.bytes.drain(..known as usize);
        chunk.offset += known;
        if chunk.bytes.is_empty() && !chunk.end {
            return;
        }
        open.next = chunk.offset.saturating_add(chunk.bytes.len() as u64).max(open.next);
        open.gap_since_ms = None;
        if chunk.end {
            self.open.remove(&id);
        }
        sender.output(Output::Tail(chunk));
    }

    /// Requests open tails again, and ends those of lost workers.
    pub fn resend(
        &mut self,
        mono_ms: u64,
        state: &State,
        sessions: &mut Sessions,
        sender: &mut WorkerSender<'_>,
    ) {
        let mut ended = Vec::new();
        for (id, open) in &mut self.open {
            let lost = state
                .worker_by_identity(open.identity)
                .is_none_or(|worker| worker.liveness() == Liveness::Lost);
            if lost {
                ended.push(*id);
            } else if mono_ms >= open.requested_ms + RESEND_MS {
                open.request(*id, mono_ms, sessions, sender);
            }
        }
        for id in ended {
            if let Some(open) = self.open.remove(&id) {
                sender.output(Output::Tail(failed(
                    id,
                    open.attempt,
                    open.next,
                    "the worker that holds the output is lost",
                )));
            }
        }
    }

    pub fn end_all(&mut self, why: &str, out: &mut dyn FnMut(Output)) {
        for (id, open) in std::mem::take(&mut self.open) {
            out(Output::Tail(failed(id, open.attempt, open.next, why)));
        }
    }
}

/// The last chunk of a tail that cannot go on.
pub fn failed(tail: RequestId, attempt: AttemptId, offset: u64, why: &str) -> LogChunk {
    LogChunk { tail, attempt, offset, bytes: Vec::new(), end: true, error: why.to_string() }
}

/// Where an ended attempt ran, if it is its task's newest.
fn last_worker(state: &State, attempt: AttemptId) -> Option<WorkerId> {
    let page = views::tasks(state, attempt.task.job, attempt.task.index, 1)?;
    let task = page.tasks.into_iter().find(|task| task.attempt == Some(attempt))?;
    task.worker
}
