//! A worker: what it said of itself, whether it is heard of, and what it holds.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use bincode::{Decode, Encode};
use muster_protocol::ids::{AttemptId, WorkerId};
use muster_protocol::limits;
use muster_protocol::resources::Resources;
use muster_protocol::worker::{Liveness, WorkerHello};

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Worker {
    /// Its id, kept per identity.
    pub id: WorkerId,
    /// What it said of itself, in its present life.
    pub hello: WorkerHello,
    /// Whether the leader hears of it.
    pub liveness: Liveness,
    /// It gets no new work. A new life takes work again.
    pub draining: bool,
    /// Every attempt that is assigned to it and has not ended, queued ones too.
    pub held: BTreeSet<AttemptId>,
    /// How many of those are queued.
    pub queued: u32,
    /// What the attempts hold that are not queued.
    pub used: Usage,
    /// What the attempts hold that have started.
    pub running: Usage,
    /// What attempts hold that may run for long: nothing queues for it.
    pub long: Usage,
    /// What the queued attempts will want.
    pub wanted: Usage,
    /// Indices of the GPUs that attempts hold.
    pub gpus_used: BTreeSet<u16>,
    /// Rendezvous ports of gangs that have not ended.
    pub ports_used: BTreeSet<u16>,
    /// How many gangs have met here: ports are taken in turn, so that one is not used again while an old
    /// connection lingers.
    pub gangs_met: u32,
}

impl Worker {
    /// Whether it gets new work.
    pub fn takes_work(&self) -> bool {
        self.liveness == Liveness::Alive && !self.draining
    }

    /// How many attempts it takes beyond its resources.
    pub fn queue_max(&self) -> u32 {
        self.hello.queue.min(limits::QUEUED_PER_WORKER_MAX)
    }

    /// The rendezvous port of the next gang, once `taken` more have met here: the free ones in turn.
    pub fn free_port_after(&self, taken: u32) -> Option<u16> {
        let count = u32::from(self.hello.rendezvous_ports);
        (0..count)
            .map(|offset| {
                u32::from(self.hello.rendezvous_port_first) + (self.gangs_met % count + offset) % count
            })
            .filter_map(|port| u16::try_from(port).ok())
            .filter(|port| !self.ports_used.contains(port))
            .nth(taken as usize)
    }

    /// What is free, for display.
    pub fn free(&self) -> Resources {
        let capacity = &self.hello.capacity;
        let left = |have: u32, used: u64| have.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
        let counters = capacity.counters.iter();
        Resources {
            cpu_milli: left(capacity.cpu_milli, self.used.cpu_milli),
            memory_mib: left(capacity.memory_mib, self.used.memory_mib),
            gpus: capacity.gpus.saturating_sub(u16::try_from(self.used.gpus).unwrap_or(u16::MAX)),
            counters: counters
                .map(|(name, have)| (name.clone(), left(*have, self.used.counter(name))))
                .collect(),
        }
    }
}

/// Sums of requests. They may pass what there is, so they are wider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Usage {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// MiB.
    pub memory_mib: u64,
    /// Whole GPUs.
    pub gpus: u64,
    /// Named counters that are not zero.
    pub counters: BTreeMap<String, u64>,
}

impl Usage {
    /// Adds a request.
    pub fn add(&mut self, request: &Resources) {
        self.cpu_milli += u64::from(request.cpu_milli);
        self.memory_mib += u64::from(request.memory_mib);
        self.gpus += u64::from(request.gpus);
        for (name, amount) in request.counters.iter().filter(|(_, amount)| **amount > 0) {
            match self.counters.get_mut(name) {
                Some(sum) => *sum += u64::from(*amount),
                None => {
                    self.counters.insert(name.to_string(), u64::from(*amount));
                }
            }
        }
    }

    /// Takes a request that was added away again.
    pub fn take(&mut self, request: &Resources) {
        self.cpu_milli -= u64::from(request.cpu_milli);
        self.memory_mib -= u64::from(request.memory_mib);
        self.gpus -= u64::from(request.gpus);
        for (name, amount) in request.counters.iter().filter(|(_, amount)| **amount > 0) {
            if let Some(sum) = self.counters.get_mut(name) {
                *sum -= u64::from(*amount);
                if *sum == 0 {
                    self.counters.remove(name);
                }
            }
        }
    }

    /// The sum under that name.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// Whether `request` fits into `capacity` on top of these sums.
    pub fn leaves_room(&self, capacity: &Resources, request: &Resources) -> bool {
        self.cpu_milli + u64::from(request.cpu_milli) <= u64::from(capacity.cpu_milli).max(self.cpu_milli)
            && self.memory_mib + u64::from(request.memory_mib)
                <= u64::from(capacity.memory_mib).max(self.memory_mib)
            && self.gpus + u64::from(request.gpus) <= u64::from(capacity.gpus).max(self.gpus)
            && request.counters.iter().all(|(name, amount)| {
                let used = self.counter(name);
                used + u64::from(*amount)
                    <= u64::from(capacity.counters.get(name).copied().unwrap_or(0)).max(used)
            })
    }
}
