//! Arguments of the client verbs.

use super::values::{LogSource, cpu_milli, duration_ms, job_id, log_source, size_mib};
use crate::client::URL_DEFAULT;
use clap::{Args, Subcommand};
use muster_protocol::ids::JobId;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  muster status --url http://10.0.0.2:7401\n  muster workers --json")]
pub struct ServerArgs {
    /// The coordinators, separated by commas; any one will do
    #[arg(long, env = "MUSTER_URL", default_value = URL_DEFAULT, value_name = "URL,…")]
    pub url: String,
    /// How long to keep trying while no coordinator answers or none leads
    #[arg(long, default_value = "15s", value_name = "DURATION", value_parser = duration_ms)]
    pub patience: u64,
    /// Print JSON with stable keys
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster submit pipeline.toml --dry-run\n  muster submit pipeline.toml --wait\n\nWhat a job file may say is in docs/job-file.md."
)]
pub struct SubmitArgs {
    /// The job file
    pub file: PathBuf,
    /// Check the file and print the plan; with --json, print the job as the API takes it
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until the job ends, and exit with its outcome
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster run --cpus 2 --mem 4GiB --wait -- python train.py\n  muster run --array 0-99 -- sh -c 'echo $MUSTER_ARRAY_INDEX'"
)]
pub struct RunArgs {
    /// CPUs per task; fractions are allowed
    #[arg(long, default_value = "1", value_parser = cpu_milli, value_name = "NUMBER")]
    pub cpus: u32,
    /// Memory per task
    #[arg(long, visible_alias = "memory", value_parser = size_mib, value_name = "SIZE")]
    pub mem: Option<u32>,
    /// GPUs per task
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub gpus: u16,
    /// Run one task per index, FIRST-LAST or FIRST-LAST:STEP; MUSTER_ARRAY_INDEX holds the index
    #[arg(long, value_name = "RANGE")]
    pub array: Option<String>,
    /// The job's name [default: the program's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Jobs with a higher priority run first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i32,
    /// How often to try again after a failure
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub retries: u32,
    /// End attempts that run longer than this
    #[arg(long, value_parser = duration_ms, value_name = "DURATION")]
    pub timeout: Option<u64>,
    /// An environment variable; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// The working directory on the worker [default: the current one if the cluster is on this machine,
    /// otherwise a scratch directory]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Print the plan without submitting
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until the job ends, show its output, and exit with its outcome
    #[arg(long)]
    pub wait: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster audit samples job-42")]
pub struct AuditArgs {
    /// What to prove
    #[command(subcommand)]
    pub what: AuditTarget,
}

#[derive(Debug, Subcommand)]
pub enum AuditTarget {
    /// Prove that a training consumed each sample exactly once
    Samples(JobArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster list --state running")]
pub struct ListArgs {
    /// Show only jobs in this state
    #[arg(long, value_parser = ["pending", "running", "cancelling", "succeeded", "failed", "cancelled"])]
    pub state: Option<String>,
    /// Show at most this many
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    pub limit: u32,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster show job-42")]
pub struct ShowArgs {
    /// The job
    #[arg(value_parser = job_id)]
    pub job: JobId,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster tasks job-42 --from 1000 --limit 500")]
pub struct TasksArgs {
    /// The job
    #[arg(value_parser = job_id)]
    pub job: JobId,
    /// The first task to show
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub from: u32,
    /// Show at most this many
    #[arg(long, default_value_t = 1_000, value_name = "NUMBER")]
    pub limit: u32,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster logs job-42.7 -f\n  muster logs job-42 --stderr\n  muster logs 'job-42.7#1'"
)]
pub struct LogsArgs {
    /// A job, a task (its newest attempt) or an attempt
    #[arg(value_parser = log_source, value_name = "JOB[.TASK[#ATTEMPT]]")]
    pub of: LogSource,
    /// Keep printing until it has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Show standard error instead of standard output
    #[arg(long)]
    pub stderr: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster wait job-42 job-43 && echo both succeeded")]
pub struct WaitArgs {
    /// The jobs
    #[arg(value_parser = job_id, required = true)]
    pub jobs: Vec<JobId>,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster watch job-42\n  muster retry job-42")]
pub struct JobArgs {
    /// The job
    #[arg(value_parser = job_id)]
    pub job: JobId,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster cancel job-42 --reason 'the data was wrong'")]
pub struct CancelArgs {
    /// The jobs
    #[arg(value_parser = job_id, required = true)]
    pub jobs: Vec<JobId>,
    /// The reason; it is recorded
    #[arg(long, default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster events --job job-42\n  muster events -f --json")]
pub struct EventsArgs {
    /// Keep printing new events
    #[arg(short, long)]
    pub follow: bool,
    /// Show only events of this job
    #[arg(long, value_parser = job_id)]
    pub job: Option<JobId>,
    /// The first log index to show [default: 1; with --follow and without --job: now]
    #[arg(long, value_name = "INDEX")]
    pub from: Option<u64>,
    /// Show at most this many
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<u64>,
    /// Include events that matter only to machines: answered requests and hints
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster replay --verify\n  muster replay --data /backup/c1 --until 1000\n  muster replay --until 2026-11-24T16:03:00Z"
)]
pub struct ReplayArgs {
    /// The data directory of a stopped coordinator, or a copy of one; without it, a running coordinator
    /// replays its own ledger
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Stop at this log index or UTC time (2026-11-24T16:03:00Z), and show the jobs as they stood then
    #[arg(long, value_name = "INDEX|TIME")]
    pub until: Option<String>,
    /// Decide every command again and compare the events
    #[arg(long)]
    pub verify: bool,
    /// Start from the newest snapshot instead of the first entry
    #[arg(long)]
    pub from_snapshot: bool,
    /// Show the jobs
    #[arg(long)]
    pub jobs: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster drain worker-3\n  muster drain node-a --undo")]
pub struct DrainArgs {
    /// The worker's id or name
    pub worker: String,
    /// Let it take work again
    #[arg(long)]
    pub undo: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}
