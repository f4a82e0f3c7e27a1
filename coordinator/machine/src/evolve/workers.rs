//! How events about workers change the state.

use crate::state::{State, Usage, Worker};
use alloc::collections::BTreeSet;
use muster_protocol::event::WorkerRegistered;
use muster_protocol::ids::WorkerId;
use muster_protocol::limits;
use muster_protocol::worker::Liveness;

impl State {
    pub(super) fn worker_registered(&mut self, event: &WorkerRegistered) {
        let id = event.worker;
        self.core.workers.entry(id).or_insert_with(|| Worker {
            id,
            hello: event.hello.clone(),
            // Lost until the change below, so that the counts follow.
            liveness: Liveness::Lost,
            draining: false,
            held: BTreeSet::new(),
            queued: 0,
            used: Usage::default(),
            running: Usage::default(),
            long: Usage::default(),
            wanted: Usage::default(),
            gpus_used: BTreeSet::new(),
            ports_used: BTreeSet::new(),
            gangs_met: 0,
        });
        self.index.identities.insert(event.hello.identity, id);
        if id.0 >= self.core.next_worker {
            self.core.next_worker = id.0 + 1;
            self.forget_lost();
        }
        self.change_worker(id, |worker| {
            worker.hello = event.hello.clone();
            worker.liveness = Liveness::Alive;
            worker.draining = false;
        });
    }

    /// Beyond the limit, the oldest of those that are lost for good are forgotten.
    fn forget_lost(&mut self) {
        let newest = self.core.next_worker - 1;
        while self.core.workers.len() > limits::WORKERS_MAX {
            let gone = |worker: &&Worker| {
                worker.liveness == Liveness::Lost && worker.held.is_empty() && worker.ports_used.is_empty()
            };
            let Some(gone) = self.core.workers.values().filter(|worker| worker.id.0 != newest).find(gone)
            else {
                return;
            };
            let (id, identity) = (gone.id, gone.hello.identity);
            self.core.workers.remove(&id);
            self.index.identities.remove(&identity);
        }
    }

    pub(super) fn change_worker(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker)) {
        let Some(worker) = self.core.workers.get_mut(&id) else { return };
        self.index.live_workers -= u64::from(worker.liveness != Liveness::Lost);
        self.index.takers -= u64::from(worker.takes_work());
        change(worker);
        self.index.live_workers += u64::from(worker.liveness != Liveness::Lost);
        self.index.takers += u64::from(worker.takes_work());
    }
}
