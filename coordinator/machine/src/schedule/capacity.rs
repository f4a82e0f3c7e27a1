//! What is left of a worker while assignments are made.

use crate::state::{Worker, WorkerLoad};
use muster_protocol::ids::WorkerId;
use muster_protocol::resources::{Grant, Resources};

/// Attempts that are not queued at one worker, at most.
const HOLDING_MAX: u32 = 1024;

/// A worker's load as it will be once the assignments made so far are folded.
#[derive(Clone)]
pub(super) struct CapacityView<'a> {
    worker: &'a Worker,
    load: WorkerLoad,
    /// Attempts that are not queued.
    pub holding: u32,
}

impl<'a> CapacityView<'a> {
    pub fn new(worker: &'a Worker) -> Self {
        let load = (*worker.load).clone();
        let holding = u32::try_from(worker.held.len()).unwrap_or(u32::MAX).saturating_sub(load.queued);
        CapacityView { worker, load, holding }
    }

    pub fn worker(&self) -> WorkerId {
        self.worker.id
    }

    /// How many attempts are queued.
    pub fn queued(&self) -> u32 {
        self.load.queued
    }

    /// Whether something may start here now: the queue goes first, and there is a limit even for tasks that
    /// ask for nothing.
    pub fn is_open(&self, request: &Resources) -> bool {
        self.holding < HOLDING_MAX && self.load.fits_after_queue(&self.worker.hello, request)
    }

    /// Whether one more attempt may queue.
    pub fn may_queue(&self, request: &Resources) -> bool {
        self.load.may_queue(&self.worker.hello, request)
    }

    /// How many attempts like that run side by side in what is not held for long.
    pub fn slots(&self, request: &Resources) -> u64 {
        let capacity = u64::from(self.worker.hello.capacity.cpu_milli);
        let cpu_milli = capacity.saturating_sub(self.load.long_running.cpu_milli);
        cpu_milli.checked_div(u64::from(request.cpu_milli)).unwrap_or(1).max(1)
    }

    /// Used CPU in thousandths of the capacity: what evens out the load.
    pub fn cpu_share(&self) -> u64 {
        let capacity = u64::from(self.worker.hello.capacity.cpu_milli);
        self.load.used.cpu_milli.saturating_mul(1000) / capacity.max(1)
    }

    /// Gives an attempt what it asks for.
    pub fn hold(&mut self, request: &Resources, long_running: bool) -> Grant {
        let grant = self.load.grant(&self.worker.hello, request);
        self.load.hold(request, &grant, long_running);
        self.holding += 1;
        grant
    }

    /// Puts an attempt into the queue.
    pub fn queue(&mut self, request: &Resources) {
        self.load.queue(request);
    }

    /// Whether a gang can meet here.
    pub fn has_port(&self) -> bool {
        self.load.free_port(&self.worker.hello).is_some()
    }

    /// A gang will meet here.
    pub fn take_port(&mut self) {
        if let Some(port) = self.load.free_port(&self.worker.hello) {
            self.load.take_port(port);
        }
    }
}
