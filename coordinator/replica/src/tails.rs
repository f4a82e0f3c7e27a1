//! Tails of attempts' outputs that somebody reads through this leader.
//!
//! A worker is told of a tail again every second, from the first byte that did not arrive: so a lost chunk
//! comes again, and a tail that nobody reads any more ends by itself.

use super::batch::Life;
use super::io::Output;
use super::leadership::Speaker;
use super::sessions::Sessions;
use muster_machine::{State, views};
use muster_protocol::bus::{Down, EndTail, LogChunk, Stream, Tail};
use muster_protocol::ids::{AttemptId, RequestId, WorkerId, WorkerIdentity};
use muster_protocol::worker::Liveness;
use std::collections::BTreeMap;

/// Tails that are open at once, at most.
const TAILS_MAX: usize = 1024;
/// A worker is told of a tail this often.
const SAY_AGAIN_MS: u64 = 1_000;
/// Bytes that did not come by then were not lost but are not there any more: the files rotate.
const GAP_MS: u64 = 3 * SAY_AGAIN_MS;

/// What a reader asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub id: RequestId,
    pub attempt: AttemptId,
    pub stream: Stream,
    pub offset: u64,
    pub follow: bool,
    pub credit_bytes: u64,
}

#[derive(Debug)]
struct Open {
    identity: WorkerIdentity,
    attempt: AttemptId,
    stream: Stream,
    follow: bool,
    /// The first byte that did not come yet.
    next: u64,
    /// The first byte that must not come yet.
    limit: u64,
    said_ms: u64,
    gap_since_ms: Option<u64>,
}

impl Open {
    fn say(&mut self, id: RequestId, mono_ms: u64, sessions: &mut Sessions, speaker: &mut Speaker<'_>) {
        self.said_ms = mono_ms;
        let Some(session) = sessions.of(self.identity) else { return };
        let life = Life { identity: self.identity, boot: session.boot };
        let (attempt, stream, follow) = (self.attempt, self.stream, self.follow);
        let tail = Tail {
            id,
            attempt,
            stream,
            offset: self.next,
            follow,
            credit_bytes: self.limit.saturating_sub(self.next),
        };
        speaker.say(life, session, Down::Tail(tail));
    }
}

/// All open tails.
#[derive(Debug, Default)]
pub(super) struct Tails {
    open: BTreeMap<RequestId, Open>,
}

impl Tails {
    /// Opens a tail, or gives more credit to one that is open.
    pub(super) fn open(
        &mut self,
        mono_ms: u64,
        wanted: Wanted,
        home: Option<WorkerId>,
        state: &State,
        sessions: &mut Sessions,
        speaker: &mut Speaker<'_>,
    ) {
        let limit = wanted.offset.saturating_add(wanted.credit_bytes);
        if let Some(open) = self.open.get_mut(&wanted.id) {
            open.next = open.next.max(wanted.offset);
            open.limit = open.limit.max(limit);
            return open.say(wanted.id, mono_ms, sessions, speaker);
        }
        let worker =
            home.or_else(|| last_worker(state, wanted.attempt)).and_then(|worker| state.worker(worker));
        let identity = match worker {
            _ if self.open.len() >= TAILS_MAX => Err("too many outputs are being read; try again later"),
            None => Err(
                "no worker is known to hold the output of this attempt; only a task's newest attempt can be read",
            ),
            Some(worker) if worker.liveness == Liveness::Lost => {
                Err("the worker that holds the output is lost")
            }
            Some(worker) => Ok(worker.hello.identity),
        };
        match identity {
            Ok(identity) => {
                let Wanted { id, attempt, stream, offset, follow, credit_bytes: _ } = wanted;
                let mut open = Open {
                    identity,
                    attempt,
                    stream,
                    follow,
                    next: offset,
                    limit,
                    said_ms: mono_ms,
                    gap_since_ms: None,
                };
                open.say(id, mono_ms, sessions, speaker);
                self.open.insert(id, open);
            }
            Err(why) => (speaker.out)(Output::Tail(failed(wanted.id, wanted.attempt, wanted.offset, why))),
        }
    }

    /// Nobody reads it any more.
    pub(super) fn close(&mut self, id: RequestId, sessions: &mut Sessions, speaker: &mut Speaker<'_>) {
        let Some(open) = self.open.remove(&id) else { return };
        let Some(session) = sessions.of(open.identity) else { return };
        let life = Life { identity: open.identity, boot: session.boot };
        speaker.say(life, session, Down::EndTail(EndTail { id }));
    }

    /// A piece of output came: each byte goes on once, in order.
    pub(super) fn chunk(
        &mut self,
        mono_ms: u64,
        mut chunk: LogChunk,
        sessions: &mut Sessions,
        speaker: &mut Speaker<'_>,
    ) {
        let id = chunk.tail;
        let Some(open) = self.open.get_mut(&id).filter(|open| open.attempt == chunk.attempt) else { return };
        if chunk.offset > open.next {
            match open.gap_since_ms {
                Some(since_ms) if mono_ms >= since_ms + GAP_MS => {}
                Some(_) => return,
                None => {
                    open.gap_since_ms = Some(mono_ms);
                    return open.say(id, mono_ms, sessions, speaker);
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
        (speaker.out)(Output::Tail(chunk));
    }

    /// Workers are told again of what is read from them.
    pub(super) fn say_again(
        &mut self,
        mono_ms: u64,
        state: &State,
        sessions: &mut Sessions,
        speaker: &mut Speaker<'_>,
    ) {
        let mut ended = Vec::new();
        for (id, open) in &mut self.open {
            let lost = state
                .worker_by_identity(open.identity)
                .is_none_or(|worker| worker.liveness == Liveness::Lost);
            if lost {
                ended.push(*id);
            } else if mono_ms >= open.said_ms + SAY_AGAIN_MS {
                open.say(*id, mono_ms, sessions, speaker);
            }
        }
        for id in ended {
            if let Some(open) = self.open.remove(&id) {
                (speaker.out)(Output::Tail(failed(
                    id,
                    open.attempt,
                    open.next,
                    "the worker that holds the output is lost",
                )));
            }
        }
    }

    /// All of them end.
    pub(super) fn end_all(&mut self, why: &str, out: &mut dyn FnMut(Output)) {
        for (id, open) in std::mem::take(&mut self.open) {
            out(Output::Tail(failed(id, open.attempt, open.next, why)));
        }
    }
}

/// The end of a tail that cannot go on.
pub(super) fn failed(tail: RequestId, attempt: AttemptId, offset: u64, why: &str) -> LogChunk {
    LogChunk { tail, attempt, offset, bytes: Vec::new(), end: true, error: why.to_string() }
}

/// Where an attempt ran that has ended, if it is its task's newest.
fn last_worker(state: &State, attempt: AttemptId) -> Option<WorkerId> {
    let page = views::tasks(state, attempt.task.job, attempt.task.index, 1)?;
    let task = page.tasks.into_iter().find(|task| task.attempt == Some(attempt))?;
    task.worker
}
