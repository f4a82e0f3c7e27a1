//! What wraps a command on its way into the log: who, on whose behalf, why, and when.

use crate::codec::{self, CodecError};
use crate::command::Command;
use crate::ids::{Digest, JobId, LogIndex, RequestId, Term, WorkerId};
use crate::rejection::Rejection;
use crate::time::{LogMs, WallMs};
use crate::{limits, tagged};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// A command with its identity.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Envelope {
    /// The client's id for it; nil: internal, not remembered.
    pub request: RequestId,
    /// Who asks: a user, `worker-3`, `leader`.
    pub actor: String,
    /// Which program asks: `muster-cli/0.1.0`.
    pub client: String,
    /// On whose behalf; `default` until there are more.
    pub namespace: String,
    /// W3C trace context (`traceparent`), or empty.
    pub trace: String,
    /// The log index of the entry that led to this command; 0: none.
    pub cause: LogIndex,
    /// What is asked.
    pub command: Command,
}

/// One Raft entry: commands that are decided in order, at one moment of log time.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Batch {
    /// The cluster's name: an entry of another cluster is refused.
    pub cluster: String,
    /// The term in which the leader stamped it; an entry stamped in another term than its Raft entry's is
    /// refused.
    pub term: Term,
    /// The moment, in log time.
    pub log_ms: LogMs,
    /// The leader's wall clock, for display.
    pub wall_ms: WallMs,
    /// In order.
    pub commands: Vec<Envelope>,
}

impl Batch {
    /// The bytes of a Raft entry.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::seal(self)
    }

    /// Reads the bytes of a Raft entry.
    pub fn from_bytes(bytes: &[u8]) -> Result<Batch, CodecError> {
        codec::open(bytes, limits::PEER_FRAME_BYTES_MAX)
    }
}

/// The first fields of a [`Batch`]: folding a ledger needs to know when, not what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Decode)]
pub struct BatchStamp {
    /// The cluster's name.
    pub cluster: String,
    /// The term in which the leader stamped it.
    pub term: Term,
    /// The moment, in log time.
    pub log_ms: LogMs,
    /// The leader's wall clock.
    pub wall_ms: WallMs,
}

impl BatchStamp {
    /// Reads the beginning of the bytes of a Raft entry.
    pub fn from_bytes(bytes: &[u8]) -> Result<BatchStamp, CodecError> {
        codec::open_front(bytes, limits::PEER_FRAME_BYTES_MAX)
    }
}

/// What the caller of an accepted command gets.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Accepted {
    /// The log index at which it was applied; 0 for one that did not go through the log.
    pub index: LogIndex,
    /// What came of it.
    pub reply: Reply,
}

tagged! {
    /// What came of an accepted command.
    pub enum Reply {
        /// It was done.
        1 => Done(Done),
        /// A job was accepted.
        2 => Submitted(Submitted),
        /// Children were added.
        3 => TasksAdded(TasksAdded),
        /// A worker was registered.
        4 => Registered(Registered),
    }
}

/// Done, with nothing to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Done {}

/// The accepted job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Submitted {
    /// Its id.
    pub job: JobId,
}

/// The added children: indices `first .. first + count`, in the order of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TasksAdded {
    /// The first child's number in the job.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// The registered worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Registered {
    /// Its id.
    pub worker: WorkerId,
}

tagged! {
    /// The remembered outcome of a request.
    pub enum Answer {
        /// It was accepted.
        1 => Accepted(Accepted),
        /// It was rejected.
        2 => Rejected(Rejected),
    }
}

/// A rejected request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Rejected {
    /// The log index at which it was rejected; 0 if it was rejected before the log.
    pub index: LogIndex,
    /// Why.
    pub rejection: Rejection,
}

/// The head of the ledger's chain: `hash(previous head, index, term, entry bytes, event bytes)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ChainHead {
    /// The last index in the chain.
    pub index: LogIndex,
    /// The chained hash.
    pub hash: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_stamp_is_how_a_batch_begins() {
        let batch = Batch {
            cluster: "local".to_string(),
            term: Term(7),
            log_ms: LogMs(70_000),
            wall_ms: WallMs(1 << 40),
            commands: Vec::new(),
        };
        let expected = BatchStamp {
            cluster: "local".to_string(),
            term: Term(7),
            log_ms: LogMs(70_000),
            wall_ms: WallMs(1 << 40),
        };
        assert_eq!(BatchStamp::from_bytes(&batch.to_bytes()), Ok(expected));
        assert!(BatchStamp::from_bytes(&[]).is_err());
    }
}
