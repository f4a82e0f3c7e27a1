//! The command line: what may be asked, and how it is explained.

mod annotate;
mod client;
mod server;

pub use annotate::{AnnotateArgs, AnnotateVerb, ExportArgs};
pub use client::{
    AuditArgs, Audited, CancelArgs, DrainArgs, EventsArgs, JobArgs, ListArgs, LogsArgs, ReplayArgs, RunArgs,
    ServerArgs, ShowArgs, SubmitArgs, TasksArgs, WaitArgs,
};
pub use server::{BrokerArgs, CoordinatorArgs, DemoArgs, ExecutorArgs, LogFormat, UpArgs, WorkerArgs};

use clap::{Parser, Subcommand};
use muster_protocol::ids::{AttemptId, JobId, TaskId};

const AFTER: &str = "\
Ids are job-42, job-42.7 (a task) and job-42.7#2 (its second attempt); a job may also be written 42.
Exit codes: 0 done, 1 the job failed or was cancelled, 2 bad usage or bad input, 3 cluster unreachable or without a leader.
Environment: MUSTER_URL names the coordinators (http://HOST:PORT, with commas between), NO_COLOR turns colours off.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "muster", version, about = "Runs LLM work on machines of your own, and can prove what it did", after_help = AFTER)]
#[command(max_term_width = 120, infer_subcommands = false, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What may be asked.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start a cluster on this machine, until Ctrl-C
    Up(UpArgs),
    /// Train a small model on a cluster of processes, kill a leader and a worker on the way, and prove the
    /// outcome
    Demo(DemoArgs),
    /// Submit a job file
    Submit(SubmitArgs),
    /// Run a command as a job
    Run(RunArgs),
    /// List jobs, the newest first
    List(ListArgs),
    /// Show a job with its stages
    Show(ShowArgs),
    /// Show the tasks of a job
    Tasks(TasksArgs),
    /// Show what tasks printed
    Logs(LogsArgs),
    /// Wait until jobs have ended, and exit with their outcome
    Wait(WaitArgs),
    /// Watch a job live until it has ended
    Watch(JobArgs),
    /// Cancel jobs
    Cancel(CancelArgs),
    /// Run the failed and cancelled tasks of an ended job again
    Retry(JobArgs),
    /// Label the items of an annotate stage: the form, imports and exports
    Annotate(AnnotateArgs),
    /// Show what happened
    Events(EventsArgs),
    /// Fold the whole log again, and show the hash of the state it comes to
    Replay(ReplayArgs),
    /// Prove something from the log alone
    Audit(AuditArgs),
    /// List workers, and what is free on them
    Workers(ServerArgs),
    /// Give a worker no new work
    Drain(DrainArgs),
    /// Show how a coordinator sees the cluster
    Status(ServerArgs),
    /// Run a coordinator
    Coordinator(CoordinatorArgs),
    /// Run a worker
    Worker(WorkerArgs),
    /// Run the embedded broker alone, on loopback
    #[command(hide = true)]
    Broker(BrokerArgs),
    /// Run one of the worker's executors; the agent calls it
    #[command(hide = true)]
    Executor(ExecutorArgs),
}

/// `job-42` or `42`.
pub fn job_id(text: &str) -> Result<JobId, String> {
    let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let full = if number { format!("job-{text}") } else { text.to_string() };
    full.parse().map_err(|_| format!("{text:?} is no job: jobs are job-1, job-2, …"))
}

/// What logs are asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogsOf {
    /// Every task of a job.
    Job(JobId),
    /// One task: its newest attempt.
    Task(TaskId),
    /// One attempt.
    Attempt(AttemptId),
}

/// `job-42`, `job-42.7` or `job-42.7#2`, each also without `job-`.
pub fn logs_of(text: &str) -> Result<LogsOf, String> {
    let full =
        if text.starts_with(|c: char| c.is_ascii_digit()) { format!("job-{text}") } else { text.to_string() };
    let attempt = full.parse().map(LogsOf::Attempt);
    let task = || full.parse().map(LogsOf::Task);
    let job = || full.parse().map(LogsOf::Job);
    attempt
        .or_else(|_| task())
        .or_else(|_| job())
        .map_err(|_| format!("{text:?} is no job, task or attempt: job-42, job-42.7 or job-42.7#2"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_that_is_shown_has_an_example() {
        let mut command = Cli::command();
        command.build();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
        {
            let after = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("muster "), "{} has no example", verb.get_name());
        }
    }

    #[test]
    fn ids() {
        assert_eq!(job_id("42"), Ok(JobId(42)));
        assert_eq!(job_id("job-42"), Ok(JobId(42)));
        assert!(
            job_id("job-").is_err()
                && job_id("").is_err()
                && job_id("+4").is_err()
                && job_id("job-4.2").is_err()
        );
        let task = TaskId { job: JobId(4), index: 2 };
        assert_eq!(logs_of("4"), Ok(LogsOf::Job(JobId(4))));
        assert_eq!(logs_of("job-4.2"), Ok(LogsOf::Task(task)));
        assert_eq!(logs_of("4.2#7"), Ok(LogsOf::Attempt(AttemptId { task, epoch: 7 })));
        assert!(logs_of("x").is_err() && logs_of("4.2.1").is_err());
    }
}
