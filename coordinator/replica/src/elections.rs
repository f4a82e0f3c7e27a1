//! Who leads: roles as they change, and election timeouts that follow from a seed instead of a random number
//! generator.

use super::Core;
use super::config::CoreConfig;
use super::io::{Output, Role};
use super::leadership::Leadership;
use muster_protocol::ids::{RaftId, Term};
use raft::StateRole;

impl Core {
    /// raft-rs draws an election timeout from a generator of its thread whenever its role or term changes.
    /// What it drew is replaced by what follows from the seed, the term and the role, whether it drew or not,
    /// so that chance has no part in it.
    pub(super) fn draw_election_timeout(&mut self) {
        let ticks = election_ticks(&self.config, self.node.raft.term, self.node.raft.state);
        self.node.raft.set_randomized_election_timeout(ticks);
    }

    /// Gives out what changed, and begins or ends a leadership.
    pub(super) fn tell_role(&mut self, out: &mut dyn FnMut(Output)) {
        if self.halted.is_some() {
            return;
        }
        let role = match self.node.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        let leader = Some(RaftId(self.node.raft.leader_id)).filter(|leader| *leader != RaftId(0));
        let term = Term(self.node.raft.term);
        if self.told == (role, leader, term) {
            return;
        }
        self.told = (role, leader, term);
        if let Some(lead) = self.lead.take_if(|lead| role != Role::Leader || lead.term != term) {
            lead.resign(leader, out);
            self.outgoing = super::Outgoing::default();
        }
        if role == Role::Leader && self.lead.is_none() {
            self.lead = Some(Leadership::new(term));
        }
        out(Output::RoleChanged { role, leader, term });
    }
}

fn election_ticks(config: &CoreConfig, term: u64, role: StateRole) -> usize {
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
    use crate::MemberConfig;

    #[test]
    fn timeouts_stay_in_range_and_members_differ() {
        let member = |id| MemberConfig {
            raft_id: RaftId(id),
            name: format!("c{id}"),
            peer: String::new(),
            http: String::new(),
        };
        let draws = |id| -> Vec<usize> {
            let config = CoreConfig::new("test", RaftId(id), vec![member(1), member(2)], 7);
            (0..200).map(|term| election_ticks(&config, term, StateRole::Follower)).collect()
        };
        assert!(draws(1).iter().all(|ticks| (12..20).contains(ticks)));
        assert!((12..20).all(|ticks| draws(1).contains(&ticks)), "every timeout comes up");
        let same = draws(1).iter().zip(draws(2)).filter(|(a, b)| **a == *b).count();
        assert!(same < 60, "{same} of 200 terms collide");
    }
}
