//! Cores over memory disks and a network in memory, driven tick by tick.

mod attempt_calls;
mod cluster;
mod failover;
mod memory_disk;
mod snapshots;
mod workers;
