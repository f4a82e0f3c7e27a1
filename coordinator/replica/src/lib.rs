//! One member of the cluster as a synchronous state machine: raft-rs, the application of committed entries,
//! and a leader's duties towards clients and workers.
//!
//! It does no IO and reads no clock. Inputs go in through [`Replica::handle`]; [`Replica::settle`] then makes
//! durable what they led to, through the trait [`disk::Disk`] that it is given, and hands out messages. It
//! draws no random numbers either, so the same inputs give the same outputs: the coordinator process and the
//! simulator drive this same code.
//!
//! **Boundary**: it may import `muster-protocol` and `muster-machine`, nothing else of Muster.

pub mod apply;
mod backfill;
mod clock;
mod command_queue;
mod completions;
mod config;
pub mod disk;
mod dispatcher;
mod divergence;
mod election;
mod error;
mod io;
mod leadership;
mod log_cache;
mod peer_message;
mod peers;
mod raft_logger;
mod raft_node;
mod ready;
mod replica;
mod seq_window;
mod sessions;
mod single_flight;
mod snapshot_transfer;
mod snapshots;
mod status;
mod tails;
#[cfg(test)]
mod tests;
mod worker_messages;
mod worker_sender;

pub use config::{MemberConfig, ReplicaConfig};
pub use error::ReplicaError;
pub use io::{CommandError, Input, Now, Output, Role};
pub use peer_message::{
    AskBlocks, BLOCKS_BYTES_MAX, Blocks, CHUNK_BYTES_MAX, Check, PeerMessage, RaftBytes, SnapshotChunk,
};
pub use replica::{FREE_BYTES_RESERVE, Replica};
