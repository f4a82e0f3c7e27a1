//! A worker: what it said of itself, whether it is heard of, and what it holds.

use crate::state::usage::WorkerLoad;
use crate::transaction::{TxCell, TxMap, undo_fields};
use bincode::{Decode, Encode};
use muster_protocol::ids::{AttemptId, WorkerId};
use muster_protocol::resources::Resources;
use muster_protocol::worker::{Liveness, WorkerHello};

/// A worker.
#[derive(Clone, Debug, Encode, Decode)]
pub struct Worker {
    /// Its id, kept per identity.
    pub id: WorkerId,
    pub(crate) hello: TxCell<WorkerHello>,
    pub(crate) status: TxCell<WorkerStatus>,
    pub(crate) load: TxCell<WorkerLoad>,
    /// Every attempt that is assigned to it and has not ended, queued ones too.
    pub(crate) held: TxMap<AttemptId, ()>,
}

undo_fields!(Worker { hello, status, load, held } constant { id });

/// Whether a worker gets work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct WorkerStatus {
    pub liveness: Liveness,
    /// It gets no new work. A worker that starts again takes work again.
    pub draining: bool,
}

impl Worker {
    /// What it said of itself when it last started.
    pub fn hello(&self) -> &WorkerHello {
        &self.hello
    }

    /// Whether the leader hears of it.
    pub fn liveness(&self) -> Liveness {
        self.status.liveness
    }

    /// Whether it was told to take no new work.
    pub fn is_draining(&self) -> bool {
        self.status.draining
    }

    /// Whether it gets new work.
    pub fn takes_work(&self) -> bool {
        self.status.liveness == Liveness::Alive && !self.status.draining
    }

    /// Every attempt that is assigned to it and has not ended, queued ones too.
    pub fn held(&self) -> impl Iterator<Item = AttemptId> + '_ {
        self.held.keys().copied()
    }

    /// Whether `attempt` is assigned to it and has not ended.
    pub fn holds(&self, attempt: AttemptId) -> bool {
        self.held.contains_key(&attempt)
    }

    /// What is free, for display.
    pub fn free(&self) -> Resources {
        let (capacity, used) = (&self.hello.capacity, &self.load.used);
        let left = |have: u32, used: u64| have.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
        let counters = capacity.counters.iter();
        Resources {
            cpu_milli: left(capacity.cpu_milli, used.cpu_milli),
            memory_mib: left(capacity.memory_mib, used.memory_mib),
            gpus: capacity.gpus.saturating_sub(u16::try_from(used.gpus).unwrap_or(u16::MAX)),
            counters: counters.map(|(name, have)| (name.clone(), left(*have, used.counter(name)))).collect(),
        }
    }
}
