//! The replica as one synchronous state machine: raft-rs, the application of what is committed, and a leader's duties.
//!
//! Inputs go in by [`Core::handle`], which does no IO; [`Core::settle`] then writes what must be durable, in few syncs, and gives out
//! what may be said because of it. It reads no clock, and draws no random number: the same inputs give the same outputs.

mod clock;
mod config;
mod io;
mod log_cache;
mod peer_message;
mod raft_logger;

pub use config::CoreConfig;
pub use io::{Input, Now, Output, Role, Unanswered};
pub use peer_message::{AskBlocks, BLOCKS_BYTES_MAX, Blocks, CHUNK_BYTES_MAX, Check, PeerMessage, RaftBytes, SnapshotChunk};

use crate::disk::{Disk, DiskError, Recovered};
use muster_machine::State;
use muster_protocol::{
    ids::{LogIndex, RaftId, Term},
    view::StatusView,
};

/// Why a core cannot start.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The settings do not fit together.
    #[error("use these settings: {0}")]
    Config(String),
    /// What the disk holds does not fit together, or not with the settings.
    #[error("start from this disk: {0}")]
    Disk(String),
    /// raft-rs refused.
    #[error("start raft: {0}")]
    Raft(#[from] raft::Error),
}

/// A replica.
pub struct Core {
    state: State,
}

impl Core {
    /// A replica as its disk holds it.
    pub fn new(config: CoreConfig, _recovered: Recovered) -> Result<Core, CoreError> {
        config.check().map_err(CoreError::Config)?;
        Ok(Core { state: State::new(&config.cluster) })
    }

    /// Takes an input. No IO happens; [`Core::settle`] must follow before anything is waited for.
    pub fn handle(&mut self, _now: Now, _input: Input, _out: &mut dyn FnMut(Output)) {}

    /// Writes, promises and applies whatever the inputs led to. An error means that the disk can no longer be trusted: drop the core.
    pub fn settle(&mut self, _now: Now, _disk: &mut dyn Disk, _out: &mut dyn FnMut(Output)) -> Result<(), DiskError> {
        Ok(())
    }

    /// The replicated state as of the last applied entry.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What this member is now.
    pub fn role(&self) -> Role {
        Role::Follower
    }

    /// Who leads, as far as this member knows.
    pub fn leader(&self) -> Option<RaftId> {
        None
    }

    /// The term.
    pub fn term(&self) -> Term {
        Term(0)
    }

    /// The last index known to be committed.
    pub fn committed(&self) -> LogIndex {
        LogIndex(0)
    }

    /// The last index applied.
    pub fn applied(&self) -> LogIndex {
        self.state.applied()
    }

    /// Why this core serves no more, if so.
    pub fn halted(&self) -> Option<&str> {
        None
    }

    /// How this member stands. The driver fills in the bus, and its own counters.
    pub fn status(&self) -> StatusView {
        unreachable!("not there yet")
    }
}
