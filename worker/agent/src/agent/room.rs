//! What is free at this worker: amounts, and the particular GPUs.

use muster_protocol::bus::Launch;
use muster_protocol::resources::Resources;
use std::collections::BTreeSet;

/// What is free at this worker.
#[derive(Debug)]
pub struct Room {
    capacity: Resources,
    free: Resources,
    gpus_held: BTreeSet<u16>,
}

impl Room {
    /// All is free.
    pub fn new(capacity: Resources) -> Room {
        Room { free: capacity.clone(), capacity, gpus_held: BTreeSet::new() }
    }

    /// Whether it would fit if nothing else were here.
    pub fn could_fit(&self, launch: &Launch) -> bool {
        self.capacity.fits(&launch.request)
    }

    /// Takes what the launch asks for, if all of it is free.
    pub fn take(&mut self, launch: &Launch) -> bool {
        if launch.grant.gpus.iter().any(|gpu| self.gpus_held.contains(gpu)) {
            return false;
        }
        let Some(left) = self.free.minus(&launch.request) else { return false };
        self.free = left;
        self.gpus_held.extend(&launch.grant.gpus);
        true
    }

    /// Gives back what a launch took.
    pub fn give_back(&mut self, launch: &Launch) {
        self.free.add(&launch.request);
        self.gpus_held.retain(|gpu| !launch.grant.gpus.contains(gpu));
    }
}
