//! A stage of a job: its counts, and in which of its sets each task is.

use crate::outcomes;
use crate::transaction::{TxCell, TxIntervals, TxQueue, undo_fields};
use bincode::{Decode, Encode};
use muster_protocol::ids::WorkerId;
use muster_protocol::interval_set::IntervalSet;
use muster_protocol::outcome::Outcome;
use muster_protocol::spec::StageSpec;

/// A stage. Its task numbers are `first ..`, as many as its spec says, and those of its children.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Stage {
    pub first: u32,
    pub status: TxCell<StageStatus>,
    /// Numbers of the children that joined, in order: their places follow those of the first tasks.
    pub joined: TxQueue<u32>,
    /// Tasks that may not start yet: the stage waits, or they wait for others.
    pub waiting: TxIntervals<u32>,
    /// Tasks that may start.
    pub runnable: TxIntervals<u32>,
    pub failed: TxIntervals<u32>,
    pub cancelled: TxIntervals<u32>,
}

undo_fields!(Stage { status, joined, waiting, runnable, failed, cancelled } constant { first });

/// The part of a stage that changes with most of its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StageStatus {
    /// No more tasks join.
    pub sealed: bool,
    /// What it needs has succeeded.
    pub ready: bool,
    pub succeeded: bool,
    pub successes: u32,
    /// Active attempts that have not started.
    pub assigned: u32,
    /// Active attempts that have started.
    pub running: u32,
    /// Attempts that succeeded, and how long they ran together: short ones are worth a queue.
    pub runs: u32,
    pub run_ms: u64,
    pub formations: u32,
    /// The gang that is formed, until its last rank has ended.
    pub gang: Option<Gang>,
    /// The epoch that tasks without a record start above. 0 as long as every task keeps its record.
    pub epoch_floor: u32,
}

/// A gang that is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Gang {
    pub worker: WorkerId,
    pub port: u16,
    /// A rank ended badly: whether that was its own failure.
    pub broken: Option<bool>,
}

impl Stage {
    /// A stage of a new job: all its tasks wait.
    pub fn new(first: u32, spec: &StageSpec) -> Self {
        Stage {
            first,
            status: StageStatus { sealed: !spec.open, ..StageStatus::default() }.into(),
            joined: TxQueue::default(),
            waiting: IntervalSet::from_range(first, first.saturating_add(spec.tasks)).into(),
            runnable: TxIntervals::default(),
            failed: TxIntervals::default(),
            cancelled: TxIntervals::default(),
        }
    }
}

impl StageStatus {
    /// Attempts that have not ended.
    pub fn active(&self) -> u32 {
        self.assigned + self.running
    }
}

impl Gang {
    /// [`Gang::broken`] once another rank has ended with `outcome`: the first bad end counts.
    pub fn broken_after(broken: Option<bool>, outcome: &Outcome) -> Option<bool> {
        match outcome {
            Outcome::Succeeded(_) => broken,
            bad => broken.or(Some(outcomes::is_own_failure(bad))),
        }
    }
}
