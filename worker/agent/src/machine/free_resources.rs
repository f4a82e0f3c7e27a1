//! What is free at this worker: amounts, and individual GPUs.

use muster_protocol::bus::Launch;
use muster_protocol::resources::Resources;
use std::collections::BTreeSet;

#[derive(Debug)]
pub struct FreeResources {
    capacity: Resources,
    free: Resources,
    gpus_in_use: BTreeSet<u16>,
}

impl FreeResources {
    pub fn new(capacity: Resources) -> FreeResources {
        FreeResources { free: capacity.clone(), capacity, gpus_in_use: BTreeSet::new() }
    }

    /// Whether the launch would fit on the idle worker.
    pub fn fits_when_idle(&self, launch: &Launch) -> bool {
        self.capacity.fits(&launch.request)
    }

    /// Takes what the launch asks for, if all of it is free.
    pub fn take(&mut self, launch: &Launch) -> bool {
        if launch.grant.gpus.iter().any(|gpu| self.gpus_in_use.contains(gpu)) {
            return false;
        }
        let Some(left) = self.free.minus(&launch.request) else { return false };
        self.free = left;
        self.gpus_in_use.extend(&launch.grant.gpus);
        true
    }

    /// Gives back what the launch took.
    pub fn release(&mut self, launch: &Launch) {
        self.free.add(&launch.request);
        self.gpus_in_use.retain(|gpu| !launch.grant.gpus.contains(gpu));
    }
}
