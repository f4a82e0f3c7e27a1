//! Resources: what a worker has, what a task requests, what an attempt holds. All are integers.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Amounts that a worker has, or that a task requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    #[serde(default)]
    pub cpu_milli: u32,
    /// Memory in MiB.
    #[serde(default)]
    pub memory_mib: u32,
    /// Whole GPUs.
    #[serde(default)]
    pub gpus: u16,
    /// Named counters: licences, slots.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u32>,
}

impl Resources {
    /// Whether `request` fits into these amounts.
    pub fn fits(&self, request: &Resources) -> bool {
        request.cpu_milli <= self.cpu_milli
            && request.memory_mib <= self.memory_mib
            && request.gpus <= self.gpus
            && request
                .counters
                .iter()
                .all(|(name, amount)| *amount <= self.counters.get(name).copied().unwrap_or(0))
    }

    /// These amounts minus `request`; `None` if it does not fit.
    pub fn minus(&self, request: &Resources) -> Option<Resources> {
        if !self.fits(request) {
            return None;
        }
        let mut left = self.clone();
        left.cpu_milli -= request.cpu_milli;
        left.memory_mib -= request.memory_mib;
        left.gpus -= request.gpus;
        for (name, amount) in &request.counters {
            if let Some(have) = left.counters.get_mut(name) {
                *have -= amount;
            }
        }
        Some(left)
    }

    /// Adds `more`; saturates.
    pub fn add(&mut self, more: &Resources) {
        self.cpu_milli = self.cpu_milli.saturating_add(more.cpu_milli);
        self.memory_mib = self.memory_mib.saturating_add(more.memory_mib);
        self.gpus = self.gpus.saturating_add(more.gpus);
        for (name, amount) in &more.counters {
            let have = self.counters.entry(name.clone()).or_insert(0);
            *have = have.saturating_add(*amount);
        }
    }
}

/// The devices that an attempt gets. The amounts are its stage's `request`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Grant {
    /// Indices of the GPUs on the worker, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<u16>,
}

/// A GPU as a worker found it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct GpuInfo {
    /// Its index on the worker, as in `CUDA_VISIBLE_DEVICES`.
    pub index: u16,
    /// Its model, from NVML.
    pub model: String,
    /// Its memory in MiB.
    pub memory_mib: u32,
    /// Its UUID, from NVML.
    pub uuid: String,
}
