//! How long the ranks wait for each other.

use std::time::Duration;

/// The timeouts of a gang; all ranks should use the same.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until all ranks have joined.
    pub join: Duration,
    /// Without a byte from a rank that should send some.
    pub silence: Duration,
    /// Between two heartbeats of our own.
    pub heartbeat_interval: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            join: Duration::from_secs(60),
            silence: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(2),
        }
    }
}
