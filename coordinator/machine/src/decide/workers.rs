//! What becomes of workers: they register, fall silent, come back, and are drained.

use super::draft::Draft;
use super::{over_limit, stale, unknown};
use crate::state::Worker;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use muster_protocol::command::{DrainWorker, SetLiveness};
use muster_protocol::envelope::{Registered, Reply};
use muster_protocol::event::{Event, WorkerEvent, WorkerRegistered};
use muster_protocol::ids::{BootId, WorkerId};
use muster_protocol::limits;
use muster_protocol::rejection::{Invalid, Rejection};
use muster_protocol::worker::{Liveness, WorkerHello};

/// Labels of a worker, and counters of its capacity, at most.
const LABELS_MAX: usize = 256;

impl Draft<'_> {
    pub fn register_worker(&mut self, hello: &WorkerHello) -> Result<Reply, Rejection> {
        check_hello(hello)?;
        let known = self.state.worker_by_identity(hello.identity);
        let worker = match known {
            Some(worker) if worker.hello.boot == hello.boot => {
                // Said again in the same life, in which what a worker has does not change.
                if worker.liveness != Liveness::Alive {
                    self.events.push(Event::WorkerRecovered(WorkerEvent { worker: worker.id }));
                }
                return Ok(Reply::Registered(Registered { worker: worker.id }));
            }
            Some(worker) => {
                self.lose_attempts(worker.held.iter().copied(), "its worker started again");
                worker.id
            }
            None if self.state.index.live_workers >= limits::WORKERS_MAX as u64 => {
                return Err(over_limit(format!(
                    "{} workers are registered, and that is the limit",
                    limits::WORKERS_MAX
                )));
            }
            None => WorkerId(self.state.core.next_worker),
        };
        self.events.push(Event::WorkerRegistered(WorkerRegistered { worker, hello: hello.clone() }));
        Ok(Reply::Registered(Registered { worker }))
    }

    pub fn set_liveness(&mut self, set: &SetLiveness) -> Result<(), Rejection> {
        let worker = self.worker_in(set.worker, set.boot)?;
        let event = WorkerEvent { worker: worker.id };
        match (worker.liveness, set.liveness) {
            (Liveness::Suspect | Liveness::Lost, Liveness::Alive) => {
                self.events.push(Event::WorkerRecovered(event))
            }
            (Liveness::Alive, Liveness::Suspect) => self.events.push(Event::WorkerSuspected(event)),
            (Liveness::Alive | Liveness::Suspect, Liveness::Lost) => {
                self.events.push(Event::WorkerLost(event));
                self.lose_attempts(worker.held.iter().copied(), "its worker was lost");
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
        match (worker.draining, drain.drain) {
            (false, true) => self.events.push(Event::WorkerDrained(event)),
            (true, false) => self.events.push(Event::WorkerUndrained(event)),
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    fn worker(&self, id: WorkerId) -> Result<&'_ Worker, Rejection> {
        self.state.worker(id).ok_or_else(|| unknown(format!("there is no {id}")))
    }
}

impl<'a> Draft<'a> {
    /// A worker in that life of it.
    pub fn worker_in(&self, id: WorkerId, boot: BootId) -> Result<&'a Worker, Rejection> {
        let worker = self.state.worker(id).ok_or_else(|| unknown(format!("there is no {id}")))?;
        if worker.hello.boot != boot {
            return Err(stale(format!("{id} has started again since")));
        }
        Ok(worker)
    }
}

fn check_hello(hello: &WorkerHello) -> Result<(), Rejection> {
    let invalid =
        |field: &str, message: String| Err(Rejection::Invalid(Invalid { field: field.into(), message }));
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
