//! Which rank of which gang a process is.

use serde::{Deserialize, Serialize};

/// Most ranks of a gang: each has a connection to every other.
pub const WORLD_MAX: u32 = 256;

/// One rank of one formation of a gang. Ranks join each other only if everything but `rank` is equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The cluster's name.
    pub cluster: String,
    /// The job's id.
    pub job: String,
    /// The index of the stage in its job.
    pub stage: u16,
    /// How often the gang has been formed: a restarted gang has a higher number.
    pub formation: u32,
    /// From 0 to `world - 1`.
    pub rank: u32,
    /// The number of ranks.
    pub world: u32,
}
