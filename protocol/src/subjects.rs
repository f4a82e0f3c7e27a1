//! NATS subjects. This is the only place that builds them. All begin with `muster.<cluster>.v1.`.

use crate::ids::{BootId, WorkerIdentity};
use alloc::format;
use alloc::string::String;

/// Messages from one worker. Every coordinator subscribes to all of them with [`up_all`].
pub fn up(cluster: &str, identity: WorkerIdentity) -> String {
    format!("muster.{cluster}.v1.up.{identity}")
}

/// The pattern that matches every worker's [`up`].
pub fn up_all(cluster: &str) -> String {
    format!("muster.{cluster}.v1.up.*")
}

/// Messages from the leader to one incarnation of a worker, which subscribes to it.
pub fn down(cluster: &str, identity: WorkerIdentity, boot: BootId) -> String {
    format!("muster.{cluster}.v1.down.{identity}.{boot}")
}

/// Whether `name` may be a cluster's name: it becomes part of subjects.
pub fn is_cluster_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
