//! Why a coordinator did not start, or ended by itself.

use crate::bus::BusError;
use crate::config::ConfigError;
use crate::store::StoreError;
use muster_replica::ReplicaError;
use muster_replica::disk::DiskError;
use std::io;
use std::net::SocketAddr;

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk failed, or its contents are damaged.
    #[error("the disk of this coordinator failed: {0}")]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("listen on {address} for {whom}: {source}")]
    Listen { address: SocketAddr, whom: &'static str, source: io::Error },
    #[error("serve the API: {0}")]
    Serve(io::Error),
    /// The replica found that going on could only do harm.
    #[error("this coordinator stops serving: {reason}")]
    Halted { reason: String },
    #[error("start the replica's thread: {0}")]
    Thread(io::Error),
    /// A bug.
    #[error("the replica's thread panicked; the log says where")]
    Panicked,
}
