//! What a worker says of itself, and what it reports of its attempts.

use crate::ids::{AttemptId, BootId, Digest, WorkerIdentity};
use crate::outcome::Outcome;
use crate::resources::{GpuInfo, Resources};
use crate::{tagged, words};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// A worker as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkerHello {
    /// Kept over restarts.
    pub identity: WorkerIdentity,
    /// Drawn at each start.
    pub boot: BootId,
    /// For people: the host's name unless set.
    pub name: String,
    /// Where other workers reach it: a host name or an address, without a port.
    pub address: String,
    /// The first of the ports that it gives to gangs for their rendezvous.
    pub rendezvous_port_first: u16,
    /// How many such ports there are.
    pub rendezvous_ports: u16,
    /// What it has.
    pub capacity: Resources,
    /// Its GPUs; as many as `capacity.gpus`.
    pub gpus: Vec<GpuInfo>,
    /// For constraints.
    pub labels: BTreeMap<String, String>,
    /// How many attempts it takes beyond its resources, queued; at most `QUEUED_PER_WORKER_MAX`.
    pub queue: u32,
    /// The program's version.
    pub version: String,
}

words! {
    /// Whether the leader hears of a worker.
    pub enum Liveness {
        /// It does.
        0 => Alive = "alive",
        /// Not for a while: no new work for it.
        1 => Suspect = "suspect",
        /// Its lease has ended: its attempts are over.
        2 => Lost = "lost",
    }
}

/// What a worker's agent says about one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Report {
    /// Which attempt.
    pub attempt: AttemptId,
    /// What happened.
    pub what: ReportKind,
}

tagged! {
    /// What happened to an attempt.
    pub enum ReportKind {
        /// It runs.
        1 => Started(Started),
        /// It ended.
        2 => Ended(Ended),
    }
}

/// It runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Started {
    /// Its process id, for people; 0: none.
    pub pid: u32,
}

/// It ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// How long it ran by the worker's monotonic clock.
    pub run_ms: u64,
}

/// One progress record: the one door for checkpoints, metrics, rounds, model and tool calls.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ProgressRecord {
    /// The attempt that made it; a stale one is rejected.
    pub attempt: AttemptId,
    /// What it is about: `train`, `checkpoint`, `call/<request hash>`.
    pub key: String,
    /// Grows per task and key; a record that is not newer than the last changes nothing.
    pub seq: u64,
    /// The hash of the payload, which is kept elsewhere (an artifact) or is the body itself.
    pub payload_hash: Digest,
    /// At most `PROGRESS_BODY_BYTES_MAX` bytes; JSON by custom.
    pub body: String,
}
