//! What goes into a core, and what comes out of it.

use super::peer_message::PeerMessage;
use crate::apply::Applied;
use muster_protocol::bus::{DownEnvelope, LogChunk, Stream, UpEnvelope};
use muster_protocol::envelope::{Answer, Envelope};
use muster_protocol::ids::{AttemptId, BootId, LogIndex, RaftId, RequestId, Term, WorkerIdentity};
use std::sync::Arc;

/// The driver's clocks at one moment; the core reads none itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Never goes back while the process lives.
    pub mono_ms: u64,
    /// For display only.
    pub wall_ms: u64,
}

/// What a core is told.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "inputs are moved once, from a queue into the core")]
pub enum Input {
    /// Another `tick_ms` is over.
    Tick,
    /// Another member said this.
    Peer {
        /// Who.
        from: RaftId,
        /// What.
        message: PeerMessage,
    },
    /// A message to that member was dropped, or its connection is broken.
    Unreachable {
        /// Which member.
        peer: RaftId,
    },
    /// A client asks for this. Answered once, by [`Output::Answered`] with the same token.
    Command {
        /// The driver's own number for it; not used again while it waits.
        token: u64,
        /// What is asked.
        envelope: Envelope,
    },
    /// A worker said this.
    Up(Box<UpEnvelope>),
    /// Somebody wants to read an attempt's output. The same id again moves the offset and gives more credit.
    OpenTail {
        /// The driver's own number for it; the core has no use for it.
        token: u64,
        /// Names the tail.
        id: RequestId,
        /// Whose output.
        attempt: AttemptId,
        /// Which stream.
        stream: Stream,
        /// From this byte on.
        offset: u64,
        /// Go on at the end, until the attempt ends.
        follow: bool,
        /// Bytes that may come beyond `offset` before more is given.
        credit_bytes: u64,
    },
    /// Nobody reads it any more.
    CloseTail {
        /// Which tail.
        id: RequestId,
    },
}

/// What a core wants done, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send this to another member; it may get lost.
    Peer {
        /// To whom.
        to: RaftId,
        /// What.
        message: PeerMessage,
    },
    /// Send this to a worker over the bus; it may get lost.
    Down {
        /// To whom.
        identity: WorkerIdentity,
        /// To which life of it.
        boot: BootId,
        /// What.
        envelope: DownEnvelope,
    },
    /// A client's command was applied, or will not be answered by this coordinator.
    Answered {
        /// As given with the command.
        token: u64,
        /// What came of it.
        result: Result<Answer, Unanswered>,
    },
    /// An entry was applied: for those who watch, in order, each index once, except after
    /// [`Output::Replaced`].
    Applied(Arc<Applied>),
    /// The state was replaced by a leader's snapshot of this index; entries up to it were not applied one by
    /// one.
    Replaced {
        /// The snapshot's index.
        index: LogIndex,
    },
    /// A piece of output for a tail that is open.
    Tail(LogChunk),
    /// This coordinator's role, its leader or its term changed.
    RoleChanged {
        /// What it is now.
        role: Role,
        /// Who leads, if known.
        leader: Option<RaftId>,
        /// In which term.
        term: Term,
    },
    /// This coordinator must stop serving, loudly: to go on could only do harm.
    Halt {
        /// Why, for people.
        reason: String,
    },
}

/// What a coordinator is in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows.
    Follower,
    /// It wants to lead.
    Candidate,
    /// It leads.
    Leader,
}

impl Role {
    /// The word for it, as in the status.
    pub fn word(self) -> &'static str {
        match self {
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        }
    }
}

/// Why a command got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Not done: another member leads.
    NotLeader {
        /// Which one, if known.
        leader: Option<RaftId>,
    },
    /// Not done: too much is waiting.
    Overloaded,
    /// Perhaps done, perhaps not: ask again with the same request id.
    Unknown,
    /// Not done: the disk is nearly full.
    NoSpace,
}
