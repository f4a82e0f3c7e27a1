//! Whether the leader knows this life of the worker, and until when the worker may act: hello, heartbeats,
//! and the lease.
//!
//! **Invariant**: the lease counts from when the newest acknowledged message was *sent*, so that it ends here
//! before it ends at the leader.

use muster_protocol::bus::{Heartbeat, HeartbeatAck, Held};
use muster_protocol::ids::{Term, WorkerId};
use muster_protocol::limits::{FENCE_AFTER_MS, FENCE_GRACE_MS, HEARTBEAT_INTERVAL_MS};

use super::Load;

/// Without a welcome for so long, hello is said again.
const HELLO_REPEAT_MS: u64 = 500;
/// However often the leader asks for it, hello is not said more often.
const HELLO_PAUSE_MS: u64 = 50;

/// Whether the leader knows this life of the worker, and until when it may act.
#[derive(Debug, Default)]
pub struct Lease {
    term: Term,
    worker: Option<WorkerId>,
    /// The first hello since the worker was last unknown: a welcome answers that one or a later one.
    hello_first: Option<u64>,
    hello_last: Option<u64>,
    heartbeat_last: Option<u64>,
    /// The lease counts from here.
    from: Option<u64>,
    pub load: Load,
    pub down_received: u64,
    received_in_term: u64,
    pub missed: u64,
}

/// What is to be said now.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Hello.
    Hello,
    /// A heartbeat.
    Heartbeat,
}

impl Lease {
    /// Notes a message of this term; whether it is to be believed, and whether it is the first of a new
    /// leader.
    pub fn hear(&mut self, term: Term) -> Heard {
        if term < self.term {
            return Heard::Deposed;
        }
        self.down_received += 1;
        let new = term > self.term;
        if new {
            self.term = term;
            self.received_in_term = 0;
        }
        self.received_in_term += 1;
        if new { Heard::NewLeader } else { Heard::Leader }
    }

    pub fn worker(&self) -> Option<WorkerId> {
        self.worker
    }

    /// The leader welcomed this life.
    pub fn welcome(&mut self, worker: WorkerId) {
        self.worker = Some(worker);
        let first = self.hello_first.take();
        self.renew(first);
    }

    /// The leader heard a heartbeat.
    pub fn acknowledged(&mut self, now_ms: u64, ack: HeartbeatAck) {
        self.worker = Some(ack.worker);
        self.hello_first = None;
        // Messages before this one, which is counted itself.
        let seen = self.received_in_term.saturating_sub(1);
        let missed = ack.down_sent.saturating_sub(seen);
        self.missed += missed;
        self.received_in_term += missed;
        self.renew((ack.sent_ms <= now_ms).then_some(ack.sent_ms));
    }

    fn renew(&mut self, from: Option<u64>) {
        self.from = self.from.max(from);
    }

    /// The leader does not know this life.
    pub fn unknown(&mut self, now_ms: u64) {
        self.worker = None;
        if self.hello_last.is_none_or(|at| now_ms >= at + HELLO_PAUSE_MS) {
            self.hello_last = None;
        }
    }

    /// Whether the worker may act.
    pub fn holds(&self, now_ms: u64) -> bool {
        self.from.is_some_and(|from| now_ms < from + FENCE_AFTER_MS)
    }

    /// For how long from now what it runs may be alive, if the leader is not heard of again.
    pub fn remaining_ms(&self, now_ms: u64) -> u64 {
        self.from.map_or(0, |from| (from + FENCE_AFTER_MS + FENCE_GRACE_MS).saturating_sub(now_ms))
    }

    /// The bus was away: whatever was said last may be lost.
    pub fn reconnected(&mut self) {
        self.hello_last = None;
        self.heartbeat_last = None;
    }

    /// What is to be said now.
    pub fn due(&self, now_ms: u64) -> Due {
        let since = |last: Option<u64>, pause: u64| last.is_none_or(|at| now_ms >= at + pause);
        match self.worker {
            None if since(self.hello_last, HELLO_REPEAT_MS) => Due::Hello,
            Some(_) if since(self.heartbeat_last, HEARTBEAT_INTERVAL_MS) => Due::Heartbeat,
            None | Some(_) => Due::Nothing,
        }
    }

    /// Hello is said now.
    pub fn said_hello(&mut self, now_ms: u64) {
        self.hello_first.get_or_insert(now_ms);
        self.hello_last = Some(now_ms);
    }

    /// A heartbeat is said now.
    pub fn heartbeat(&mut self, now_ms: u64, held: Vec<Held>) -> Heartbeat {
        self.heartbeat_last = Some(now_ms);
        Heartbeat {
            sent_ms: now_ms,
            cpu_milli: self.load.cpu_milli,
            memory_mib: self.load.memory_mib,
            held,
            down_received: self.down_received,
        }
    }
}

/// Whose word it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// One who leads no more, or another's message.
    Deposed,
    /// The leader's.
    Leader,
    /// A new leader's, for the first time.
    NewLeader,
}
