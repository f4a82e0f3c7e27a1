//! What a snapshot holds: the records of jobs, workers and requests.

use crate::state::job::Job;
use crate::state::requests::Requests;
use crate::state::worker::Worker;
use crate::transaction::{TxCell, TxMap, TxQueue, undo_fields};
use alloc::string::String;
use bincode::{Decode, Encode};
use muster_protocol::envelope::ChainHead;
use muster_protocol::ids::{JobId, LogIndex, RaftId, Term, WorkerId};
use muster_protocol::time::{LogMs, WallMs};

/// When and where: of the entry that is being applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Moment {
    /// The entry's index.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// Log time.
    pub log_ms: LogMs,
    /// The leader's wall clock, for display.
    pub wall_ms: WallMs,
}

/// Everything that replicas have in common.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Records {
    pub cluster: String,
    pub now: Moment,
    pub applied: LogIndex,
    pub chain: ChainHead,
    pub header: TxCell<Header>,
    pub jobs: TxMap<JobId, Job>,
    /// Ended jobs that are kept, in the order in which they ended.
    pub ended: TxQueue<JobId>,
    pub workers: TxMap<WorkerId, Worker>,
    pub requests: Requests,
}

// Entries begin and end outside transactions.
undo_fields!(Records { header, jobs, ended, workers, requests } constant { cluster, now, applied, chain });

/// What there is one of.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Header {
    pub decide_version: u32,
    pub leader: RaftId,
    pub leader_name: String,
    pub leader_term: Term,
    pub next_job: u64,
    pub next_worker: u32,
}
