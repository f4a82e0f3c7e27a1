//! How a worker describes itself, and what it reports about its attempts.

use crate::ids::{AttemptId, BootId, Digest, WorkerIdentity};
use crate::outcome::Outcome;
use crate::resources::{GpuInfo, Resources};
use crate::{tagged, words};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// How a worker describes itself when it registers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkerHello {
    /// Survives restarts.
    pub identity: WorkerIdentity,
    /// Drawn at each start of the agent.
    pub boot: BootId,
    /// For people: the host's name unless configured.
    pub name: String,
    /// Where other workers reach it: a host name or an address, without a port.
    pub address: String,
    /// The first of the ports that it offers to gangs for their rendezvous.
    pub rendezvous_port_first: u16,
    /// The number of those ports.
    pub rendezvous_ports: u16,
    /// Total resources.
    pub capacity: Resources,
    /// Its GPUs; `capacity.gpus` of them.
    pub gpus: Vec<GpuInfo>,
    /// Shown to people; nothing is scheduled by them yet.
    pub labels: BTreeMap<String, String>,
    /// Attempts that may be queued at it beyond its resources; at most
    /// [`QUEUED_PER_WORKER_MAX`](crate::limits::QUEUED_PER_WORKER_MAX).
    pub queue: u32,
    /// The program's version.
    pub version: String,
}

words! {
    /// Whether the leader hears from a worker.
    pub enum Liveness {
        /// Heartbeats arrive.
        0 => Alive = "alive",
        /// Silent for [`WORKER_SUSPECT_MS`](crate::limits::WORKER_SUSPECT_MS): it gets no new work.
        1 => Suspect = "suspect",
        /// Its lease has ended, and its attempts with it.
        2 => Lost = "lost",
    }
}

/// A report of a worker's agent about one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Report {
    /// The attempt.
    pub attempt: AttemptId,
    /// What happened to it.
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

/// The attempt runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Started {
    /// Its process id, for people; 0 if it has no process.
    pub pid: u32,
}

/// The attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Ended {
    /// The outcome.
    pub outcome: Outcome,
    /// Its run time by the worker's monotonic clock.
    pub run_ms: u64,
}

/// A record that an attempt writes: checkpoints, metrics, rounds of training, calls of models and tools.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ProgressRecord {
    /// The attempt that wrote it. Records of an older epoch are rejected.
    pub attempt: AttemptId,
    /// The topic: `train`, `checkpoint`, `call/<request hash>`.
    pub key: String,
    /// Grows per task and key. A record that is not newer than the last under its key is ignored.
    pub seq: u64,
    /// The hash of the payload, which is the body itself or an artifact.
    pub payload_hash: Digest,
    /// At most [`PROGRESS_BODY_BYTES_MAX`](crate::limits::PROGRESS_BODY_BYTES_MAX) bytes; JSON by convention.
    pub body: String,
}
