//! Workers register, are suspected and lost, come back, and are drained.

use super::decider::Decider;
use super::rejections::{invalid, over_limit, stale, unknown};
use crate::state::Worker;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use muster_protocol::command::{DrainWorker, SetLiveness};
use muster_protocol::envelope::{Registered, Reply};
use muster_protocol::event::{Event, WorkerEvent, WorkerRegistered};
use muster_protocol::ids::{BootId, WorkerId};
use muster_protocol::limits;
use muster_protocol::rejection::Rejection;
use muster_protocol::worker::{Liveness, WorkerHello};

/// Labels of a worker, and counters of its capacity, at most.
const LABELS_MAX: usize = 256;

impl Decider<'_> {
    pub fn register_worker(&mut self, hello: &WorkerHello) -> Result<Reply, Rejection> {
        check_hello(hello)?;
        let known = self.state.worker_by_identity(hello.identity);
        let worker = match known {
            Some(worker) if worker.hello().boot == hello.boot => {
                // A repeat by the same process: what a worker has does not change while it runs.
                let id = worker.id;
                if worker.liveness() != Liveness::Alive {
                    self.push(Event::WorkerRecovered(WorkerEvent { worker: id }));
                }
                return Ok(Reply::Registered(Registered { worker: id }));
            }
            Some(worker) => {
                let id = worker.id;
                self.lose_attempts(id, "its worker started again");
                id
            }
            None if self.state.index.totals.live_workers >= limits::WORKERS_MAX as u64 => {
                return Err(over_limit(format!(
                    "{} workers are registered, and that is the limit",
                    limits::WORKERS_MAX
                )));
            }
            None => WorkerId(self.state.records.header.next_worker),
        };
        self.push(Event::WorkerRegistered(WorkerRegistered { worker, hello: hello.clone() }));
        Ok(Reply::Registered(Registered { worker }))
    }

    pub fn set_liveness(&mut self, set: &SetLiveness) -> Result<(), Rejection> {
        let worker = self.worker_in(set.worker, set.boot)?;
        let event = WorkerEvent { worker: worker.id };
        match (worker.liveness(), set.liveness) {
            (Liveness::Suspect | Liveness::Lost, Liveness::Alive) => self.push(Event::WorkerRecovered(event)),
            (Liveness::Alive, Liveness::Suspect) => self.push(Event::WorkerSuspected(event)),
            (Liveness::Alive | Liveness::Suspect, Liveness::Lost) => {
                self.push(Event::WorkerLost(event));
                self.lose_attempts(set.worker, "its worker was lost");
            }
            (Liveness::Alive, Liveness::Alive)
            | (Liveness::Suspect, Liveness::Suspect)
            | (Liveness::Lost, _) => {}
        }
        Ok(())
    }

    pub fn drain_worker(&mut self, drain: &DrainWorker) -> Result<(), Rejection> {
        let worker = self.worker(drain.worker)?;
        let event = WorkerEvent { worker: worker.id };
        match (worker.is_draining(), drain.drain) {
            (false, true) => self.push(Event::WorkerDrained(event)),
            (true, false) => self.push(Event::WorkerUndrained(event)),
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    fn worker(&self, id: WorkerId) -> Result<&Worker, Rejection> {
        self.state.worker(id).ok_or_else(|| unknown(format!("there is no {id}")))
    }

    /// A worker, if it has not started again since that boot.
    pub fn worker_in(&self, id: WorkerId, boot: BootId) -> Result<&Worker, Rejection> {
        let worker = self.worker(id)?;
        if worker.hello().boot != boot {
            return Err(stale(format!("{id} has started again since")));
        }
        Ok(worker)
    }
}

fn check_hello(hello: &WorkerHello) -> Result<(), Rejection> {
    let invalid = |field: &str, message: String| Err(invalid(field, message));
    for (field, text) in [("name", &hello.name), ("address", &hello.address), ("version", &hello.version)] {
        if text.len() > limits::NAME_BYTES_MAX {
            return invalid(field, format!("{} bytes; at most {}", text.len(), limits::NAME_BYTES_MAX));
        }
    }
    let indices: BTreeSet<u16> = hello.gpus.iter().map(|gpu| gpu.index).collect();
    if hello.gpus.len() != usize::from(hello.capacity.gpus) || indices.len() != hello.gpus.len() {
        return invalid(
            "gpus",
            format!("{} different GPUs, but a capacity of {}", indices.len(), hello.capacity.gpus),
        );
    }
    if hello.labels.len() > LABELS_MAX || hello.capacity.counters.len() > LABELS_MAX {
        return invalid("labels", format!("more than {LABELS_MAX} labels or counters"));
    }
    Ok(())
}
