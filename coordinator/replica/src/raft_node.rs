//! The raft-rs node and its limits.

use crate::config::ReplicaConfig;
use crate::disk::Recovered;
use crate::error::ReplicaError;
use crate::log_cache::LogCache;
use crate::raft_logger;
use raft::eraftpb::ConfState;
use raft::{Config, RawNode};

/// Bytes of entries in one append message, unless one entry is larger.
const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Append messages to one member that it has not answered yet.
const APPENDS_IN_FLIGHT_MAX: usize = 128;
/// Bytes of entries that are proposed and not committed.
pub const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;
/// Bytes of committed entries that are applied in one cycle.
const APPLY_BYTES_MAX: u64 = 8 << 20;

/// A Raft node over what the disk holds.
pub fn raft_node(config: &ReplicaConfig, recovered: Recovered) -> Result<RawNode<LogCache>, ReplicaError> {
    let mut voters: Vec<u64> = config.members.iter().map(|member| member.raft_id.0).collect();
    voters.sort_unstable();
    let members = ConfState { voters, ..ConfState::default() };
    let log = LogCache::new(recovered, members.clone()).map_err(ReplicaError::Disk)?;
    let mut known = log.conf_state().voters.clone();
    known.sort_unstable();
    if known != members.voters {
        let message = format!(
            "it belongs to a cluster of members {known:?}, but the settings say {:?}",
            members.voters
        );
        return Err(ReplicaError::Disk(message));
    }
    let raft = Config {
        id: config.raft_id.0,
        election_tick: config.election_ticks_min,
        heartbeat_tick: config.heartbeat_ticks,
        min_election_tick: config.election_ticks_min,
        max_election_tick: config.election_ticks_max,
        applied: log.snapshot_index(),
        max_size_per_msg: APPEND_BYTES_MAX,
        max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
        max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: APPLY_BYTES_MAX,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    };
    Ok(RawNode::new(&raft, log, &raft_logger::logger())?)
}
