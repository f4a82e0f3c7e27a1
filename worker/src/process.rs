//! The worker as a process: one loop that owns everything, feeds the agent and performs what it says.

use crate::config::WorkerConfig;

/// Why a worker does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not there yet.
    #[error("run the worker {0}")]
    NotYet(String),
}

/// Runs a worker until `shutdown` completes and it has drained. A SIGTERM or SIGINT after that ends what runs at once.
pub async fn run(config: WorkerConfig, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    shutdown.await;
    Err(Error::NotYet(config.cluster))
}
