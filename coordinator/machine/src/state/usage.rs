//! The accounting of one worker: what attempts hold, what they wait for, and what is left. The fold, `decide`
//! and `schedule` all use it. The invariants add up on their own, to check it.

use crate::state::task::{ActiveAttempt, AttemptPhase};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use muster_protocol::limits;
use muster_protocol::resources::{Grant, Resources};
use muster_protocol::worker::WorkerHello;

/// Sums of requests. They may exceed a capacity, so they are wider.
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

    /// Subtracts a request that was added before.
    pub fn subtract(&mut self, request: &Resources) {
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

/// What a worker's attempts take of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct WorkerLoad {
    /// How many attempts are queued.
    pub queued: u32,
    /// What the attempts hold that are not queued.
    pub used: Usage,
    /// What the attempts hold that have started.
    pub running: Usage,
    /// What attempts hold that may run for long: nothing queues behind them.
    pub long_running: Usage,
    /// What the queued attempts ask for.
    pub wanted: Usage,
    /// Indices of the GPUs that attempts hold.
    pub gpus_used: BTreeSet<u16>,
    /// Rendezvous ports of gangs that have not ended.
    pub ports_used: BTreeSet<u16>,
    /// How many gangs have met here: ports are taken in turn, so that one is not used again while an old
    /// connection lingers.
    pub gangs_met: u32,
}

impl WorkerLoad {
    /// An attempt gets what it asks for.
    pub fn hold(&mut self, request: &Resources, grant: &Grant, long_running: bool) {
        self.used.add(request);
        if long_running {
            self.long_running.add(request);
        }
        self.gpus_used.extend(&grant.gpus);
    }

    /// An attempt queues for what it asks for.
    pub fn queue(&mut self, request: &Resources) {
        self.wanted.add(request);
        self.queued += 1;
    }

    /// An attempt starts that was in `phase`.
    pub fn start(&mut self, request: &Resources, phase: AttemptPhase) {
        if phase == AttemptPhase::Queued {
            self.queued -= 1;
            self.wanted.subtract(request);
            self.used.add(request);
        }
        self.running.add(request);
    }

    /// An attempt ends.
    pub fn release(&mut self, request: &Resources, attempt: &ActiveAttempt) {
        match attempt.phase {
            AttemptPhase::Queued => {
                self.queued -= 1;
                self.wanted.subtract(request);
            }
            AttemptPhase::Assigned => self.used.subtract(request),
            AttemptPhase::Running { .. } => {
                self.used.subtract(request);
                self.running.subtract(request);
            }
        }
        if attempt.long_running {
            self.long_running.subtract(request);
        }
        for gpu in &attempt.grant.gpus {
            self.gpus_used.remove(gpu);
        }
    }

    /// A gang meets at `port`.
    pub fn take_port(&mut self, port: u16) {
        self.ports_used.insert(port);
        self.gangs_met = self.gangs_met.wrapping_add(1);
    }

    /// The rendezvous port of the next gang: the free ones in turn.
    pub fn free_port(&self, hello: &WorkerHello) -> Option<u16> {
        let count = u32::from(hello.rendezvous_ports);
        (0..count)
            .map(|offset| u32::from(hello.rendezvous_port_first) + (self.gangs_met % count + offset) % count)
            .filter_map(|port| u16::try_from(port).ok())
            .find(|port| !self.ports_used.contains(port))
    }

    /// Whether `request` fits now.
    pub fn fits(&self, hello: &WorkerHello, request: &Resources) -> bool {
        self.used.leaves_room(&hello.capacity, request)
    }

    /// Whether `request` fits once everything queued has what it asks for: the queue goes first.
    pub fn fits_after_queue(&self, hello: &WorkerHello, request: &Resources) -> bool {
        if self.queued == 0 {
            return self.fits(hello, request);
        }
        let mut used = self.used.clone();
        used.cpu_milli += self.wanted.cpu_milli;
        used.memory_mib += self.wanted.memory_mib;
        used.gpus += self.wanted.gpus;
        for (name, amount) in &self.wanted.counters {
            *used.counters.entry(name.clone()).or_insert(0) += amount;
        }
        used.leaves_room(&hello.capacity, request)
    }

    /// Whether one more attempt may queue: its turn will come soon.
    pub fn may_queue(&self, hello: &WorkerHello, request: &Resources) -> bool {
        request.gpus == 0
            && self.queued < hello.queue.min(limits::QUEUED_PER_WORKER_MAX)
            && self.long_running.leaves_room(&hello.capacity, request)
    }

    /// Whether `grant` satisfies `request` with devices that exist and are free.
    pub fn may_grant(&self, hello: &WorkerHello, request: &Resources, grant: &Grant) -> bool {
        let ascending = grant.gpus.windows(2).all(|pair| pair[0] < pair[1]);
        let exists = |gpu: &u16| hello.gpus.iter().any(|info| info.index == *gpu);
        grant.gpus.len() == usize::from(request.gpus)
            && ascending
            && grant.gpus.iter().all(|gpu| exists(gpu) && !self.gpus_used.contains(gpu))
    }

    /// A grant for `request`: the free devices with the smallest indices.
    pub fn grant(&self, hello: &WorkerHello, request: &Resources) -> Grant {
        let free = hello.gpus.iter().map(|info| info.index).filter(|gpu| !self.gpus_used.contains(gpu));
        let mut gpus: Vec<u16> = free.collect();
        gpus.sort_unstable();
        gpus.truncate(usize::from(request.gpus));
        Grant { gpus }
    }
}
