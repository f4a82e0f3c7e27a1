//! Election timeouts that follow from a seed instead of a random number generator.

use crate::config::ReplicaConfig;
use raft::StateRole;

/// The election timeout of a member in a term and role, within the configured range.
pub fn election_ticks(config: &ReplicaConfig, term: u64, role: StateRole) -> usize {
    let role: u64 = match role {
        StateRole::Follower => 0,
        StateRole::PreCandidate => 1,
        StateRole::Candidate => 2,
        StateRole::Leader => 3,
    };
    let span = (config.election_ticks_max - config.election_ticks_min) as u64;
    let drawn = mix(mix(mix(config.random_seed ^ config.raft_id.0) ^ term) ^ role);
    config.election_ticks_min + (drawn % span) as usize
}

/// The finalizer of splitmix64: neighbouring numbers become very different ones.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MemberConfig;
    use muster_protocol::ids::RaftId;

    #[test]
    fn timeouts_stay_in_range_and_members_differ() {
        let member = |id| MemberConfig {
            raft_id: RaftId(id),
            name: format!("c{id}"),
            peer: String::new(),
            http: String::new(),
        };
        let draws = |id| -> Vec<usize> {
            let config = ReplicaConfig::new("test", RaftId(id), vec![member(1), member(2)], 7);
            (0..200).map(|term| election_ticks(&config, term, StateRole::Follower)).collect()
        };
        assert!(draws(1).iter().all(|ticks| (12..20).contains(ticks)));
        assert!((12..20).all(|ticks| draws(1).contains(&ticks)), "every timeout comes up");
        let same = draws(1).iter().zip(draws(2)).filter(|(a, b)| **a == *b).count();
        assert!(same < 60, "{same} of 200 terms collide");
    }
}
