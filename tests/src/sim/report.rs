//! What came of a run.

use muster_protocol::ids::Digest;

/// What was counted in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that were delivered: between coordinators, to and from workers, to and from clients.
    pub messages: u64,
    /// Messages that were lost.
    pub lost: u64,
    /// Leaders that took over.
    pub elections: u64,
    /// Coordinators and agents that crashed.
    pub crashes: u64,
    /// Snapshots that a leader sent and a follower installed.
    pub installs: u64,
    /// Tasks that came to an end.
    pub tasks: u64,
    /// Submits that were acknowledged.
    pub acknowledged: u64,
    /// Entries of the log that were applied.
    pub entries: u64,
    /// Simulated time.
    pub simulated_ms: u64,
}

impl Stats {
    /// Adds another run's counts.
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

    /// What a run must have seen to have shown anything; `None` if it has.
    pub fn lacking(&self) -> Option<String> {
        let wanted = [
            ("elections", self.elections, 2),
            ("crashes", self.crashes, 2),
            ("snapshot installs", self.installs, 1),
            ("tasks", self.tasks, 100),
        ];
        wanted
            .iter()
            .find(|(_, seen, least)| seen < least)
            .map(|(what, seen, least)| format!("{seen} {what}, where each seed must see {least}"))
    }
}

/// Something that must hold did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which seed.
    pub seed: u64,
    /// The hash of the trace.
    pub trace: Digest,
    /// The last entry that any coordinator applied, and the head of its chain.
    pub head: (u64, Digest),
    /// The last lines of the trace.
    pub last: Vec<String>,
    /// What was counted.
    pub stats: Stats,
    /// The first thing that did not hold, if any.
    pub failure: Option<Failure>,
}
