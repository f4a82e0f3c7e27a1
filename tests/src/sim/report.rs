//! The result of a run.

use muster_protocol::ids::Digest;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that were delivered: between coordinators, to and from workers, to and from clients.
    pub messages: u64,
    pub lost: u64,
    /// Coordinators that became leader.
    pub elections: u64,
    /// Coordinators and agents that crashed.
    pub crashes: u64,
    /// Snapshots that a leader sent and a follower installed.
    pub installs: u64,
    /// Tasks that ended.
    pub tasks: u64,
    /// Submits that were acknowledged.
    pub acknowledged: u64,
    /// Entries of the log that were applied.
    pub entries: u64,
    pub simulated_ms: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Stats) {
        self.messages += other.messages;
        self.lost += other.lost;
        self.elections += other.elections;
        self.crashes += other.crashes;
        self.installs += other.installs;
        self.tasks += other.tasks;
        self.acknowledged += other.acknowledged;
        self.entries += other.entries;
        self.simulated_ms += other.simulated_ms;
    }

    /// What a run must contain to prove anything, and did not; `None`: it contains everything.
    pub fn missing_coverage(&self) -> Option<String> {
        let wanted = [
            ("elections", self.elections, 2),
            ("crashes", self.crashes, 2),
            ("snapshot installs", self.installs, 1),
            ("tasks", self.tasks, 100),
        ];
        wanted
            .iter()
            .find(|(_, seen, least)| seen < least)
            .map(|(what, seen, least)| format!("{seen} {what}, but each seed needs {least}"))
    }
}

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its name.
    pub invariant: &'static str,
    pub what: String,
}

#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    /// The hash of the trace.
    pub trace: Digest,
    /// The last index that any coordinator applied, and the chain head there.
    pub head: (u64, Digest),
    pub last: Vec<String>,
    pub stats: Stats,
    /// The first violated invariant.
    pub failure: Option<Failure>,
}
