//! How long executors wait for others. Tests shorten these times.

use muster_protocol::limits::WORKER_LEASE_MS;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct WaitTimes {
    /// How long a trainer waits while no loader answers: a new one starts within a lease and a restart, if
    /// the cluster has room for it.
    pub loader_outage: Duration,
    /// How long a rank of a broken gang waits to be stopped before it fails. The loss of another rank's
    /// worker is known after a lease, and costs no retry.
    pub broken_gang: Duration,
    /// How often a loader checks the stages that it feeds.
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
