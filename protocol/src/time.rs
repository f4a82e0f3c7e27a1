//! Time as data. Log time drives every decision; wall time is only displayed.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Milliseconds of log time since the cluster's first entry. It only moves forward, and only while there is a
/// leader.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LogMs(pub u64);

impl LogMs {
    /// This moment plus `ms`; saturates.
    pub fn plus_ms(self, ms: u64) -> Self {
        LogMs(self.0.saturating_add(ms))
    }
}

/// Milliseconds since the Unix epoch by the leader's own clock. Displayed, never compared.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallMs(pub u64);
