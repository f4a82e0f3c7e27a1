//! Read access to a replica, for its driver and for the status page.

use crate::io::Role;
use crate::replica::Replica;
use muster_machine::{State, views};
use muster_protocol::ids::{LogIndex, RaftId, Term};
use muster_protocol::view::{MemberView, StatusView};

impl Replica {
    /// The replicated state as of the last applied entry.
    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn role(&self) -> Role {
        self.published.0
    }

    /// The leader, as far as this member knows.
    pub fn leader(&self) -> Option<RaftId> {
        self.published.1
    }

    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// The last index known to be committed.
    pub fn committed(&self) -> LogIndex {
        LogIndex(self.node.raft.raft_log.committed)
    }

    /// The last index applied.
    pub fn applied(&self) -> LogIndex {
        self.state.applied()
    }

    /// Whether this member leads and has applied its takeover, so that its state holds everything that was
    /// acknowledged before.
    pub fn is_serving(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.has_taken_over())
    }

    /// Why this replica stopped serving, if it did.
    pub fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// The ledger has no gap from this index on; 1 if it is complete.
    pub fn ledger_first(&self) -> LogIndex {
        let applied = self.state.applied().0;
        let held = self.backfill.held();
        LogIndex(if held.last < applied { applied + 1 } else { held.first })
    }

    /// The status page, except for the bus and the counters of the driver.
    pub fn status(&self) -> StatusView {
        let members = self.config.members.iter().map(|member| MemberView {
            name: member.name.clone(),
            raft_id: member.raft_id,
            peer: member.peer.clone(),
            http: member.http.clone(),
            matched: self.matched(member.raft_id),
        });
        let counters = [
            ("commands", self.commands),
            ("entries", self.entries),
            ("ledger_bytes", self.disk_counters.ledger_bytes),
            ("ledger_syncs", self.disk_counters.ledger_syncs),
            ("log_bytes", self.disk_counters.log_bytes),
            ("raft_syncs", self.disk_counters.raft_syncs),
        ];
        StatusView {
            cluster: self.config.cluster.clone(),
            coordinator: self.config.name.clone(),
            raft_id: self.config.raft_id,
            role: self.role().word().to_string(),
            leader: self.leader().map(|leader| self.config.name_of(leader).to_string()).unwrap_or_default(),
            term: self.term(),
            committed: self.committed(),
            applied: self.applied(),
            log_ms: self.state.now().log_ms,
            chain: self.state.chain(),
            ledger_first: self.ledger_first(),
            members: members.collect(),
            open_jobs: views::open_jobs(&self.state),
            workers: views::live_workers(&self.state),
            bus: String::new(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            counters: counters.into_iter().map(|(name, count)| (name.to_string(), count)).collect(),
        }
    }
}
