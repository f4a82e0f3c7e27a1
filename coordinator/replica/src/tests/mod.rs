//! Replicas on memory disks and an in-memory network, driven tick by tick.

mod attempt_calls;
mod cluster;
mod failover;
mod memory_disk;
mod snapshots;
mod workers;
