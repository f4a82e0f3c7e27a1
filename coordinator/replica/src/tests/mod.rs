//! Cores over memory disks and a network in memory, driven tick by tick.

mod cluster;
mod doors;
mod failover;
mod memory_disk;
mod snapshots;
mod workers;
