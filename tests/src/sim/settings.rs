//! The settings of a run, the same for every seed.

#[derive(Clone, Debug)]
pub struct Settings {
    pub coordinators: usize,
    pub workers: usize,
    pub clients: usize,
    /// How long faults are injected.
    pub fault_phase_ms: u64,
    /// How long the cluster may take to finish all jobs after that.
    pub recovery_ms_max: u64,
    /// Jobs of all clients.
    pub jobs: usize,
    /// How many lines of the trace a failure shows.
    pub lines_shown: usize,
    /// Keep all lines of the trace.
    pub verbose: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            coordinators: 3,
            workers: 3,
            clients: 3,
            fault_phase_ms: 25_000,
            recovery_ms_max: 240_000,
            jobs: 24,
            lines_shown: 60,
            verbose: false,
        }
    }
}
