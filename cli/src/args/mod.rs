//! The command line: what may be asked, and how it is explained.

mod annotate;
mod client;
mod server;
mod values;

pub use annotate::{AnnotateArgs, AnnotateVerb, ExportArgs};
pub use client::{
    AuditArgs, AuditTarget, CancelArgs, DrainArgs, EventsArgs, JobArgs, ListArgs, LogsArgs, ReplayArgs,
    RunArgs, ServerArgs, ShowArgs, SubmitArgs, TasksArgs, WaitArgs,
};
pub use server::{BrokerArgs, CoordinatorArgs, DemoArgs, ExecutorArgs, LogFormat, UpArgs, WorkerArgs};

pub use values::LogSource;

use clap::{Parser, Subcommand};

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

#[cfg(test)]
mod tests;
