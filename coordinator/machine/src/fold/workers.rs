//! How events about workers change the state.

use crate::state::{State, Worker, WorkerLoad, WorkerStatus};
use muster_protocol::event::WorkerRegistered;
use muster_protocol::ids::WorkerId;
use muster_protocol::limits;
use muster_protocol::worker::Liveness;

impl State {
    pub(super) fn worker_registered(&mut self, event: &WorkerRegistered) {
        let (id, tx) = (event.worker, self.tx);
        if !self.records.workers.contains_key(&id) {
            let worker = Worker {
                id,
                hello: event.hello.clone().into(),
                // Lost until the change below, so that the totals follow.
                status: WorkerStatus { liveness: Liveness::Lost, draining: false }.into(),
                load: WorkerLoad::default().into(),
                held: Default::default(),
            };
            self.records.workers.insert(id, worker, tx);
        }
        self.index.identities.insert(event.hello.identity, id.into(), tx);
        if id.0 >= self.records.header.next_worker {
            self.records.header.edit(tx).next_worker = id.0 + 1;
            self.forget_lost();
        }
        if let Some(worker) = self.records.workers.edit(&id, tx) {
            *worker.hello.edit(tx) = event.hello.clone();
        }
        self.change_worker(id, |status| {
            *status = WorkerStatus { liveness: Liveness::Alive, draining: false };
        });
    }

    /// Beyond the limit, the oldest of those that are lost for good are forgotten.
    fn forget_lost(&mut self) {
        let newest = self.records.header.next_worker - 1;
        while self.records.workers.len() > limits::WORKERS_MAX {
            let gone = |worker: &&Worker| {
                worker.liveness() == Liveness::Lost
                    && worker.held.is_empty()
                    && worker.load.ports_used.is_empty()
            };
            let others = self.records.workers.values().filter(|worker| worker.id.0 != newest);
            let Some(gone) = others.into_iter().find(gone) else { return };
            let (id, identity) = (gone.id, gone.hello.identity);
            self.records.workers.remove(&id, self.tx);
            self.index.identities.remove(&identity, self.tx);
        }
    }

    pub(super) fn change_worker(&mut self, id: WorkerId, change: impl FnOnce(&mut WorkerStatus)) {
        let Some(worker) = self.records.workers.edit(&id, self.tx) else { return };
        let totals = self.index.totals.edit(self.tx);
        totals.subtract_worker(worker);
        change(worker.status.edit(self.tx));
        totals.add_worker(worker);
    }
}
