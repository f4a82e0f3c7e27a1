//! Attempts as operating-system processes: started, supervised, signalled, and their output kept. This
//! carries out what the agent decides, and decides nothing itself.

mod context;
mod environment;
mod orphans;
mod output;
mod processes;
mod reaper;
mod retention;
mod spawn;
mod supervise;
mod tails;
#[cfg(test)]
mod tests;

pub(crate) use environment::SpawnEnv;
pub(crate) use orphans::end_orphans;
pub(crate) use processes::AttemptProcesses;
pub(crate) use reaper::ProcessReaper;
pub(crate) use tails::LogTails;
