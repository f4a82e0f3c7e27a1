//! Why a replica cannot start.

#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    #[error("use these settings: {0}")]
    Config(String),
    /// The data on the disk contradict each other or the settings.
    #[error("start from this disk: {0}")]
    Disk(String),
    #[error("start raft: {0}")]
    Raft(#[from] raft::Error),
}
