//! The command line: verbs, flags and their help.

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
Environment: MUSTER_URL names the coordinators (http://HOST:PORT, separated by commas); NO_COLOR turns colours off.";

#[derive(Debug, Parser)]
#[command(name = "muster", version, about = "Runs LLM work on machines of your own, and can prove what it did", after_help = AFTER)]
#[command(max_term_width = 120, infer_subcommands = false, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start a cluster on this machine; runs until Ctrl-C
    Up(UpArgs),
    /// Train a small model on a local cluster, kill a leader and a worker meanwhile, and check the result
    Demo(DemoArgs),
    /// Submit a job file
    Submit(SubmitArgs),
    /// Run a command as a job
    Run(RunArgs),
    /// List jobs, newest first
    List(ListArgs),
    /// Show a job and its stages
    Show(ShowArgs),
    /// Show the tasks of a job
    Tasks(TasksArgs),
    /// Show the output of tasks
    Logs(LogsArgs),
    /// Wait until jobs end, and exit with their outcome
    Wait(WaitArgs),
    /// Follow a job live until it ends
    Watch(JobArgs),
    /// Cancel jobs
    Cancel(CancelArgs),
    /// Run the failed and cancelled tasks of an ended job again
    Retry(JobArgs),
    /// Work with a stage that people label: its form, imports and exports
    Annotate(AnnotateArgs),
    /// Show the event log
    Events(EventsArgs),
    /// Replay the whole log and show the hash of the resulting state
    Replay(ReplayArgs),
    /// Prove something from the log alone
    Audit(AuditArgs),
    /// List workers and their free resources
    Workers(ServerArgs),
    /// Stop giving work to a worker
    Drain(DrainArgs),
    /// Show the cluster as a coordinator sees it
    Status(ServerArgs),
    /// Run a coordinator
    Coordinator(CoordinatorArgs),
    /// Run a worker
    Worker(WorkerArgs),
    /// Run the embedded broker on its own, on loopback
    #[command(hide = true)]
    Broker(BrokerArgs),
    /// Run a built-in executor; the agent calls this
    #[command(hide = true)]
    Executor(ExecutorArgs),
}

#[cfg(test)]
mod tests;
