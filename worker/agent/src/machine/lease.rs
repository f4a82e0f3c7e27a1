//! Hello, heartbeats and the lease: whether the leader knows this incarnation of the worker, and until when
//! the worker may run attempts.
//!
//! **Invariant**: the lease counts from when the newest acknowledged message was *sent*, so that it ends here
//! before it ends at the leader.

use super::input::Load;
use muster_protocol::bus::{Heartbeat, HeartbeatAck, Held};
use muster_protocol::ids::{Term, WorkerId};
use muster_protocol::limits::{FENCE_AFTER_MS, FENCE_GRACE_MS, HEARTBEAT_INTERVAL_MS};

/// After this time without a welcome, hello is sent again.
const HELLO_REPEAT_MS: u64 = 500;
/// Hello is never sent more often than this, however often the leader asks for it.
const HELLO_PAUSE_MS: u64 = 50;

#[derive(Debug, Default)]
pub struct Lease {
    term: Term,
    worker: Option<WorkerId>,
    /// The first hello since the leader last did not know this worker: a welcome answers it or a later one.
    hello_first: Option<u64>,
    hello_last: Option<u64>,
    heartbeat_last: Option<u64>,
    /// The lease counts from here.
    from: Option<u64>,
    pub load: Load,
    down_received: u64,
    received_in_term: u64,
    /// Messages that leaders sent and that did not arrive.
    pub missed: u64,
}

/// Which message must be sent now.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    Hello,
    Heartbeat,
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageOrigin {
    /// Must not be obeyed: there is a newer leader.
    Deposed,
    Leader,
    /// A leader's first message.
    NewLeader,
}

impl Lease {
    /// Counts a message of this term, and says who sent it.
    pub fn received(&mut self, term: Term) -> MessageOrigin {
        if term < self.term {
            return MessageOrigin::Deposed;
        }
        self.down_received += 1;
        let new = term > self.term;
        if new {
            self.term = term;
            self.received_in_term = 0;
        }
        self.received_in_term += 1;
        if new { MessageOrigin::NewLeader } else { MessageOrigin::Leader }
    }

    pub fn worker(&self) -> Option<WorkerId> {
        self.worker
    }

    /// The leader has registered this incarnation.
    pub fn welcomed(&mut self, worker: WorkerId) {
        self.worker = Some(worker);
        let first = self.hello_first.take();
        self.renew(first);
    }

    /// The leader received a heartbeat.
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

    /// The leader does not know this incarnation.
    pub fn unknown(&mut self, now_ms: u64) {
        self.worker = None;
        if self.hello_last.is_none_or(|at| now_ms >= at + HELLO_PAUSE_MS) {
            self.hello_last = None;
        }
    }

    /// Whether the worker may run attempts.
    pub fn holds(&self, now_ms: u64) -> bool {
        self.from.is_some_and(|from| now_ms < from + FENCE_AFTER_MS)
    }

    /// How long from now its attempts may live if the leader acknowledges nothing more.
    pub fn remaining_ms(&self, now_ms: u64) -> u64 {
        self.from.map_or(0, |from| (from + FENCE_AFTER_MS + FENCE_GRACE_MS).saturating_sub(now_ms))
    }

    /// The bus was disconnected: the last messages may be lost.
    pub fn reconnected(&mut self) {
        self.hello_last = None;
        self.heartbeat_last = None;
    }

    pub fn due(&self, now_ms: u64) -> Due {
        let since = |last: Option<u64>, pause: u64| last.is_none_or(|at| now_ms >= at + pause);
        match self.worker {
            None if since(self.hello_last, HELLO_REPEAT_MS) => Due::Hello,
            Some(_) if since(self.heartbeat_last, HEARTBEAT_INTERVAL_MS) => Due::Heartbeat,
            None | Some(_) => Due::Nothing,
        }
    }

    pub fn hello_sent(&mut self, now_ms: u64) {
        self.hello_first.get_or_insert(now_ms);
        self.hello_last = Some(now_ms);
    }

    /// A heartbeat to send now.
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
