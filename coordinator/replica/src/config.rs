//! What a core is told at its start, and never changes.

use muster_protocol::ids::RaftId;
use muster_protocol::subjects;
use std::collections::BTreeSet;

/// A coordinator of the cluster, as every other one knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its number in Raft: its position in the list of members, counted from 1.
    pub raft_id: RaftId,
    /// Its name.
    pub name: String,
    /// Where the other coordinators reach it.
    pub peer: String,
    /// Where people and programs reach it.
    pub http: String,
}

/// The settings of a core. Times are in ticks, so that one number stretches them all.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Which member this is.
    pub raft_id: RaftId,
    /// This coordinator's name.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// All members, this one too.
    pub members: Vec<MemberConfig>,
    /// How often the driver says [`Input::Tick`](super::Input::Tick).
    pub tick_ms: u64,
    /// A follower that hears nothing for this many ticks may start an election.
    pub election_ticks_min: usize,
    /// It starts one after fewer ticks than this.
    pub election_ticks_max: usize,
    /// Ticks from one Raft heartbeat to the next.
    pub heartbeat_ticks: usize,
    /// A snapshot is made, and the log truncated, after this many entries.
    pub snapshot_every_entries: u64,
    /// Or after this many bytes of entries, whatever comes first.
    pub snapshot_every_bytes: u64,
    /// Entries before a snapshot that are kept, so that a follower a little behind needs no snapshot.
    pub keep_entries: u64,
    /// Election timeouts follow from it: the same seed and inputs give the same outputs.
    pub random_seed: u64,
}

impl CoreConfig {
    /// The settings that a real coordinator uses: elections after 600 to 1,000 ms without a leader.
    pub fn new(cluster: &str, raft_id: RaftId, members: Vec<MemberConfig>, random_seed: u64) -> CoreConfig {
        let name = members
            .iter()
            .find(|member| member.raft_id == raft_id)
            .map(|member| member.name.clone())
            .unwrap_or_default();
        CoreConfig {
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
        }
    }

    /// Says what is wrong with these settings.
    pub(super) fn check(&self) -> Result<(), String> {
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

    /// The name of a member, or an empty text.
    pub(super) fn name_of(&self, raft_id: RaftId) -> &str {
        self.members.iter().find(|member| member.raft_id == raft_id).map_or("", |member| &member.name)
    }
}
