//! The envelope of a command, the batch that is one Raft entry, and the answers to commands.

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
    /// The client's request id. Nil for internal commands, which are not remembered.
    pub request: RequestId,
    /// The user or component that asks: a user's name, `worker-3`, `leader`.
    pub actor: String,
    /// The program that asks: `muster-cli/0.1.0`.
    pub client: String,
    /// The namespace; always `default` today.
    pub namespace: String,
    /// W3C trace context (`traceparent`), or empty.
    pub trace: String,
    /// The log index of the entry that caused this command; 0 if no entry did.
    pub cause: LogIndex,
    /// The command.
    pub command: Command,
}

/// One Raft entry: commands that are decided in order, all at the same log time.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Batch {
    /// The cluster's name. An entry of another cluster is refused.
    pub cluster: String,
    /// The term in which the leader stamped it. Must equal the term of its Raft entry.
    pub term: Term,
    /// Log time.
    pub log_ms: LogMs,
    /// The leader's wall clock, for display.
    pub wall_ms: WallMs,
    /// Decided in this order.
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

/// The first fields of a [`Batch`]: folding a ledger needs its time, not its commands.
#[derive(Clone, Debug, PartialEq, Eq, Decode)]
pub struct BatchStamp {
    /// The cluster's name.
    pub cluster: String,
    /// The term in which the leader stamped it.
    pub term: Term,
    /// Log time.
    pub log_ms: LogMs,
    /// The leader's wall clock.
    pub wall_ms: WallMs,
}

impl BatchStamp {
    /// Reads the start of the bytes of a Raft entry.
    pub fn from_bytes(bytes: &[u8]) -> Result<BatchStamp, CodecError> {
        codec::open_front(bytes, limits::PEER_FRAME_BYTES_MAX)
    }
}

/// The answer to an accepted command.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Accepted {
    /// The log index at which it was applied; 0 if it did not go through the log.
    pub index: LogIndex,
    /// The result.
    pub reply: Reply,
}

tagged! {
    /// The result of an accepted command.
    pub enum Reply {
        /// It was done, and there is nothing to return.
        1 => Done(Done),
        /// A job was accepted.
        2 => Submitted(Submitted),
        /// Children were added.
        3 => TasksAdded(TasksAdded),
        /// A worker was registered.
        4 => Registered(Registered),
    }
}

/// Done, with nothing to return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Done {}

/// The job was accepted.
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
    /// The number of children.
    pub count: u32,
}

/// The registered worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Registered {
    /// Its id.
    pub worker: WorkerId,
}

tagged! {
    /// The remembered answer to a request.
    pub enum Answer {
        /// The command was accepted.
        1 => Accepted(Accepted),
        /// The command was rejected.
        2 => Rejected(Rejected),
    }
}

/// A rejected request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Rejected {
    /// The log index at which it was rejected; 0 if it was rejected before the log.
    pub index: LogIndex,
    /// The reason.
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
