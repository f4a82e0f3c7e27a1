//! What goes into a replica, and what comes out of it.

use crate::apply::Applied;
use crate::peer_message::PeerMessage;
use muster_protocol::bus::{DownEnvelope, LogChunk, Stream, UpEnvelope};
use muster_protocol::envelope::{Answer, Envelope};
use muster_protocol::ids::{AttemptId, BootId, LogIndex, RaftId, RequestId, Term, WorkerIdentity};

/// The driver's clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Never goes back while the process lives.
    pub mono_ms: u64,
    /// For display only.
    pub wall_ms: u64,
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "inputs are moved once, from a queue into the replica")]
pub enum Input {
    /// Another `tick_ms` has passed.
    Tick,
    Peer {
        from: RaftId,
        message: PeerMessage,
    },
    /// A message to that member was dropped, or its connection broke.
    Unreachable {
        peer: RaftId,
    },
    /// A client's command. It is answered once, by [`Output::Answered`] with the same token.
    Command {
        /// Chosen by the driver; not reused while the command waits.
        token: u64,
        envelope: Envelope,
    },
    /// A message from a worker.
    Up(Box<UpEnvelope>),
    /// A client wants to read an attempt's output. The same id again moves the offset and adds credit.
    OpenTail {
        id: RequestId,
        attempt: AttemptId,
        stream: Stream,
        /// The first byte to send.
        offset: u64,
        /// Continue at the end of the output until the attempt ends.
        follow: bool,
        /// Bytes that may be sent from `offset` on.
        credit_bytes: u64,
    },
    /// The reader of a tail is gone.
    CloseTail {
        id: RequestId,
    },
}

/// What the driver has to do, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send this to another member; it may get lost.
    Peer {
        to: RaftId,
        message: PeerMessage,
    },
    /// Send this to a worker over the bus; it may get lost.
    Down {
        identity: WorkerIdentity,
        boot: BootId,
        envelope: DownEnvelope,
    },
    /// A client's command was applied, or this coordinator will not answer it.
    Answered {
        token: u64,
        result: Result<Answer, CommandError>,
    },
    /// An entry was applied; only if [`ReplicaConfig::report_applied`](crate::ReplicaConfig::report_applied)
    /// is set. In order, each index once, except after [`Output::SnapshotInstalled`].
    Applied(Box<Applied>),
    /// A leader's snapshot of this index replaced the state. Entries up to it were not applied one by one.
    SnapshotInstalled {
        index: LogIndex,
    },
    /// A piece of output for an open tail.
    Tail(LogChunk),
    RoleChanged {
        role: Role,
        leader: Option<RaftId>,
        term: Term,
    },
    /// This coordinator must stop serving: going on could only do harm.
    Halt {
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Follower,
    Candidate,
    Leader,
}

impl Role {
    /// As in the status.
    pub fn word(self) -> &'static str {
        match self {
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        }
    }
}

/// Why a command got no answer. Except for `OutcomeUnknown`, the command was not and will not be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    NotLeader {
        leader: Option<RaftId>,
    },
    /// Too many commands are waiting.
    Overloaded,
    /// The command may or may not be applied: ask again with the same request id.
    OutcomeUnknown,
    /// The disk is nearly full.
    DiskFull,
}
