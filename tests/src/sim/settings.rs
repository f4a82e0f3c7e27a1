//! How long and how rough a simulated cluster's life is. The same for every seed; what differs is drawn from
//! the seed.

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Coordinators.
    pub coordinators: usize,
    /// Workers.
    pub workers: usize,
    /// Clients, each with one request under way at a time.
    pub clients: usize,
    /// How long things go wrong.
    pub rough_ms: u64,
    /// How long everything may take to come to its end once all is well.
    pub heal_ms: u64,
    /// Jobs in all.
    pub jobs: usize,
    /// The lines of the trace that a failure shows.
    pub lines_shown: usize,
    /// Keep every line of the trace, not just the last ones.
    pub verbose: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            coordinators: 3,
            workers: 3,
            clients: 3,
            rough_ms: 25_000,
            heal_ms: 240_000,
            jobs: 24,
            lines_shown: 60,
            verbose: false,
        }
    }
}
