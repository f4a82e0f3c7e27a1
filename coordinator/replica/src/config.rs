//! The settings of a replica, which never change while it runs.

use muster_protocol::ids::RaftId;
use muster_protocol::subjects;
use std::collections::BTreeSet;

/// A member of the cluster, as all members know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its position in the list of members, counted from 1.
    pub raft_id: RaftId,
    pub name: String,
    /// `HOST:PORT` for the other coordinators.
    pub peer: String,
    /// `HOST:PORT` for clients.
    pub http: String,
}

/// Times are in ticks, so that `tick_ms` scales them all.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    pub raft_id: RaftId,
    pub name: String,
    pub cluster: String,
    /// All members, including this one.
    pub members: Vec<MemberConfig>,
    /// The interval of [`Input::Tick`](crate::Input::Tick).
    pub tick_ms: u64,
    /// Election timeouts are at least this long.
    pub election_ticks_min: usize,
    /// Election timeouts are shorter than this.
    pub election_ticks_max: usize,
    /// The interval of Raft heartbeats.
    pub heartbeat_ticks: usize,
    /// A snapshot is taken, and the log truncated, after this many entries,
    pub snapshot_every_entries: u64,
    /// or after this many bytes of entries, whichever comes first.
    pub snapshot_every_bytes: u64,
    /// Entries kept before a snapshot, so that a follower slightly behind needs no snapshot.
    pub keep_entries: u64,
    /// Determines election timeouts.
    pub random_seed: u64,
    /// Hand out [`Output::Applied`](crate::Output::Applied), for the simulator and for tests.
    pub report_applied: bool,
}

impl ReplicaConfig {
    /// The settings of production: elections after 600 to 1,000 ms without a leader.
    pub fn new(
        cluster: &str,
        raft_id: RaftId,
        members: Vec<MemberConfig>,
        random_seed: u64,
    ) -> ReplicaConfig {
        let name = members
            .iter()
            .find(|member| member.raft_id == raft_id)
            .map(|member| member.name.clone())
            .unwrap_or_default();
        ReplicaConfig {
            raft_id,
            name,
            cluster: cluster.to_string(),
            members,
            tick_ms: 50,
            election_ticks_min: 12,
            election_ticks_max: 20,
            heartbeat_ticks: 2,
            snapshot_every_entries: 20_000,
            snapshot_every_bytes: 64 << 20,
            keep_entries: 2_000,
            random_seed,
            report_applied: false,
        }
    }

    /// `Err` says what is wrong with these settings.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !subjects::is_cluster_name(&self.cluster) {
            return Err(format!("{:?} is no cluster name: up to 64 of a-z, 0-9 and -", self.cluster));
        }
        let ids: BTreeSet<_> = self.members.iter().map(|member| member.raft_id).collect();
        if ids.len() != self.members.len() || ids.contains(&RaftId(0)) {
            return Err("members need different numbers, from 1".to_string());
        }
        if !ids.contains(&self.raft_id) {
            return Err(format!("member {} is not in the list of members", self.raft_id));
        }
        if self.tick_ms == 0 || self.heartbeat_ticks == 0 || self.election_ticks_min <= self.heartbeat_ticks {
            return Err("an election must take longer than a heartbeat, and a tick some time".to_string());
        }
        if self.election_ticks_max <= self.election_ticks_min {
            return Err("the longest election timeout must be longer than the shortest".to_string());
        }
        if self.snapshot_every_entries == 0 || self.snapshot_every_bytes == 0 {
            return Err("snapshots need some entries between them".to_string());
        }
        Ok(())
    }

    /// The name of a member, or an empty string.
    pub(crate) fn name_of(&self, raft_id: RaftId) -> &str {
        self.members.iter().find(|member| member.raft_id == raft_id).map_or("", |member| &member.name)
    }
}
