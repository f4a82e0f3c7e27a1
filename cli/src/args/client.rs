//! Verbs that ask a cluster.

use super::values::{LogSource, cpu_milli, duration_ms, job_id, log_source, size_mib};
use crate::client::URL_DEFAULT;
use clap::{Args, Subcommand};
use muster_protocol::ids::JobId;
use std::path::PathBuf;

/// Where the cluster is, and how its answer is shown.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  muster status --url http://10.0.0.2:7401\n  muster workers --json")]
pub struct ServerArgs {
    /// The coordinators to ask, with commas between; any will do
    #[arg(long, env = "MUSTER_URL", default_value = URL_DEFAULT, value_name = "URL,…")]
    pub url: String,
    /// How long to go on asking while there is no answer or no leader
    #[arg(long, default_value = "15s", value_name = "DURATION", value_parser = duration_ms)]
    pub patience: u64,
    /// Print JSON with stable keys
    #[arg(long)]
    pub json: bool,
}

/// `submit`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster submit pipeline.toml --dry-run\n  muster submit pipeline.toml --wait\n\nWhat a job file may say is in docs/job-file.md."
)]
pub struct SubmitArgs {
    /// The job file
    pub file: PathBuf,
    /// Check the file and print the plan; with --json, the job as the API takes it
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until the job has ended, and exit with its outcome
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster run --cpus 2 --mem 4GiB --wait -- python train.py\n  muster run --array 0-99 -- sh -c 'echo $MUSTER_ARRAY_INDEX'"
)]
pub struct RunArgs {
    /// CPUs of each task; may be a fraction
    #[arg(long, default_value = "1", value_parser = cpu_milli, value_name = "NUMBER")]
    pub cpus: u32,
    /// Memory of each task
    #[arg(long, visible_alias = "memory", value_parser = size_mib, value_name = "SIZE")]
    pub mem: Option<u32>,
    /// GPUs of each task
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub gpus: u16,
    /// One task per index, FIRST-LAST or FIRST-LAST:STEP; the index is in MUSTER_ARRAY_INDEX
    #[arg(long, value_name = "RANGE")]
    pub array: Option<String>,
    /// The job's name; the program's unless set
    #[arg(long)]
    pub name: Option<String>,
    /// Larger goes first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i32,
    /// Attempts after a failed first one
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub retries: u32,
    /// End an attempt that runs longer
    #[arg(long, value_parser = duration_ms, value_name = "DURATION")]
    pub timeout: Option<u64>,
    /// A variable of the environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// The working directory on the worker; the current one if the cluster is on this machine, else a scratch
    /// directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Print the plan, and submit nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until the job has ended, show what it printed, and exit with its outcome
    #[arg(long)]
    pub wait: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `audit`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster audit samples job-42")]
pub struct AuditArgs {
    /// What to prove
    #[command(subcommand)]
    pub what: AuditTarget,
}

/// What can be proved.
#[derive(Debug, Subcommand)]
pub enum AuditTarget {
    /// That a training consumed each sample exactly once
    Samples(JobArgs),
}

/// `list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster list --state running")]
pub struct ListArgs {
    /// Only jobs in this state
    #[arg(long, value_parser = ["pending", "running", "cancelling", "succeeded", "failed", "cancelled"])]
    pub state: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    pub limit: u32,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster show job-42")]
pub struct ShowArgs {
    /// The job
    #[arg(value_parser = job_id)]
    pub job: JobId,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `tasks`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster tasks job-42 --from 1000 --limit 500")]
pub struct TasksArgs {
    /// The job
    #[arg(value_parser = job_id)]
    pub job: JobId,
    /// The number of the first task to show
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub from: u32,
    /// At most so many
    #[arg(long, default_value_t = 1_000, value_name = "NUMBER")]
    pub limit: u32,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `logs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster logs job-42.7 -f\n  muster logs job-42 --stderr\n  muster logs 'job-42.7#1'"
)]
pub struct LogsArgs {
    /// A job, a task (its newest attempt) or an attempt
    #[arg(value_parser = log_source, value_name = "JOB[.TASK[#ATTEMPT]]")]
    pub of: LogSource,
    /// Go on until it has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Standard error instead of standard output
    #[arg(long)]
    pub stderr: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `wait`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster wait job-42 job-43 && echo both succeeded")]
pub struct WaitArgs {
    /// The jobs
    #[arg(value_parser = job_id, required = true)]
    pub jobs: Vec<JobId>,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `watch` and `retry`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster watch job-42\n  muster retry job-42")]
pub struct JobArgs {
    /// The job
    #[arg(value_parser = job_id)]
    pub job: JobId,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `cancel`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster cancel job-42 --reason 'the data was wrong'")]
pub struct CancelArgs {
    /// The jobs
    #[arg(value_parser = job_id, required = true)]
    pub jobs: Vec<JobId>,
    /// Why; it is recorded
    #[arg(long, default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `events`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster events --job job-42\n  muster events -f --json")]
pub struct EventsArgs {
    /// Go on with every new one
    #[arg(short, long)]
    pub follow: bool,
    /// Only of this job
    #[arg(long, value_parser = job_id)]
    pub job: Option<JobId>,
    /// From this log index on; 1 unless set, and with --follow and no --job: from now on
    #[arg(long, value_name = "INDEX")]
    pub from: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<u64>,
    /// Also what only matters to machines: answered requests, hints
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster replay --verify\n  muster replay --data /backup/c1 --until 1000\n  muster replay --until 2026-11-24T16:03:00Z"
)]
pub struct ReplayArgs {
    /// A coordinator's data directory: of a stopped one, or a copy; without it, a running one folds its own
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Only up to this log index, or this moment (2026-11-24T16:03:00Z); also shows the jobs as they stood
    /// then
    #[arg(long, value_name = "INDEX|TIME")]
    pub until: Option<String>,
    /// Also decide every command again, and compare
    #[arg(long)]
    pub verify: bool,
    /// Begin at the newest snapshot, not at the first entry
    #[arg(long)]
    pub from_snapshot: bool,
    /// Show the jobs
    #[arg(long)]
    pub jobs: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `drain`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster drain worker-3\n  muster drain node-a --undo")]
pub struct DrainArgs {
    /// The worker's id or name
    pub worker: String,
    /// Give it work again
    #[arg(long)]
    pub undo: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}
