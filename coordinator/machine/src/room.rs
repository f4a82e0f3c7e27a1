//! The room at a worker while assignments are made or checked: the state's, less what was given since.

use crate::state::{Usage, Worker};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use muster_protocol::resources::{Grant, Resources};

/// Attempts that are not queued at one worker.
const HOLDING_MAX: u32 = 1024;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Room<'a> {
    pub worker: &'a Worker,
    used: Usage,
    long: Usage,
    wanted: Usage,
    gpus_used: BTreeSet<u16>,
    /// Gangs that were given a port since.
    ports_taken: u32,
    pub queued: u32,
    /// Attempts that are not queued.
    pub holding: u32,
}

impl<'a> Room<'a> {
    /// As the state has it.
    pub fn of(worker: &'a Worker) -> Self {
        Room {
            worker,
            used: worker.used.clone(),
            long: worker.long.clone(),
            wanted: worker.wanted.clone(),
            gpus_used: worker.gpus_used.clone(),
            ports_taken: 0,
            queued: worker.queued,
            holding: u32::try_from(worker.held.len()).unwrap_or(u32::MAX).saturating_sub(worker.queued),
        }
    }

    /// Whether `request` fits now.
    pub fn fits(&self, request: &Resources) -> bool {
        self.used.leaves_room(&self.worker.hello.capacity, request)
    }

    /// Whether `request` fits when all that is queued has got its room: the queue goes first.
    pub fn fits_after_queue(&self, request: &Resources) -> bool {
        if self.queued == 0 {
            return self.fits(request);
        }
        let mut used = self.used.clone();
        used.cpu_milli += self.wanted.cpu_milli;
        used.memory_mib += self.wanted.memory_mib;
        used.gpus += self.wanted.gpus;
        for (name, amount) in &self.wanted.counters {
            *used.counters.entry(name.clone()).or_insert(0) += amount;
        }
        used.leaves_room(&self.worker.hello.capacity, request)
    }

    /// Whether that grant is one for `request`, of devices that are there and free.
    pub fn may_grant(&self, request: &Resources, grant: &Grant) -> bool {
        let ascending = grant.gpus.windows(2).all(|pair| pair[0] < pair[1]);
        let there = |gpu: &u16| self.worker.hello.gpus.iter().any(|info| info.index == *gpu);
        grant.gpus.len() == usize::from(request.gpus)
            && ascending
            && grant.gpus.iter().all(|gpu| there(gpu) && !self.gpus_used.contains(gpu))
    }

    /// A grant for `request`: the free devices with the smallest indices.
    pub fn grant(&self, request: &Resources) -> Grant {
        let mut free: Vec<u16> = self
            .worker
            .hello
            .gpus
            .iter()
            .map(|info| info.index)
            .filter(|gpu| !self.gpus_used.contains(gpu))
            .collect();
        free.sort_unstable();
        free.truncate(usize::from(request.gpus));
        Grant { gpus: free }
    }

    /// Whether the scheduler may place something here now: there is room, the queue goes first, and there is
    /// an end even for tasks that ask for nothing.
    pub fn is_open(&self, request: &Resources) -> bool {
        self.holding < HOLDING_MAX && self.fits_after_queue(request)
    }

    /// Whether one more attempt may queue: it will have its turn soon.
    pub fn may_queue(&self, request: &Resources) -> bool {
        request.gpus == 0
            && self.queued < self.worker.queue_max()
            && self.long.leaves_room(&self.worker.hello.capacity, request)
    }

    /// How many attempts like that run side by side in what is not held for long.
    pub fn slots(&self, request: &Resources) -> u64 {
        let cpu_milli = u64::from(self.worker.hello.capacity.cpu_milli).saturating_sub(self.long.cpu_milli);
        cpu_milli.checked_div(u64::from(request.cpu_milli)).unwrap_or(1).max(1)
    }

    /// An attempt holds `request`, perhaps for long.
    pub fn hold(&mut self, request: &Resources, grant: &Grant, long: bool) {
        self.used.add(request);
        if long {
            self.long.add(request);
        }
        self.gpus_used.extend(&grant.gpus);
        self.holding += 1;
    }

    /// An attempt queues for `request`.
    pub fn queue(&mut self, request: &Resources) {
        self.wanted.add(request);
        self.queued += 1;
    }

    /// A rendezvous port, the `n`-th since the state, as the fold of `n` gangs would leave it.
    pub fn take_port(&mut self) -> Option<u16> {
        let port = self.peek_port()?;
        self.ports_taken += 1;
        Some(port)
    }

    /// The port that would be taken.
    pub fn peek_port(&self) -> Option<u16> {
        self.worker.free_port_after(self.ports_taken)
    }

    /// Used CPU in thousandths of what there is: what evens out the load.
    pub fn load(&self) -> u64 {
        self.used.cpu_milli.saturating_mul(1000) / u64::from(self.worker.hello.capacity.cpu_milli).max(1)
    }
}
