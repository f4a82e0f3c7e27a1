//! How long executors wait for others: what a test shortens.

use muster_protocol::limits::WORKER_LEASE_MS;
use std::time::Duration;

/// How long executors wait for others.
#[derive(Clone, Copy, Debug)]
pub struct WaitTimes {
    /// How long a trainer bears that no loader answers: another one starts within a lease and a restart, if
    /// there is room for it.
    pub loader_outage: Duration,
    /// How long a rank of a broken gang waits to be stopped, before it fails: the loss of another's worker is
    /// known after a lease, and costs no retry.
    pub broken_gang: Duration,
    /// Between two looks of a loader at the stages that it feeds.
    pub stage_poll: Duration,
}

impl Default for WaitTimes {
    fn default() -> WaitTimes {
        WaitTimes {
            loader_outage: Duration::from_secs(600),
            broken_gang: Duration::from_millis(WORKER_LEASE_MS + 1_000),
            stage_poll: Duration::from_secs(1),
        }
    }
}
