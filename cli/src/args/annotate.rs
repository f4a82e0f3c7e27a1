//! `annotate`: what may be asked of a stage that waits for people.

use super::client::ServerArgs;
use super::values::job_id;
use clap::{Args, Subcommand};
use muster_protocol::ids::JobId;
use std::path::PathBuf;

/// `annotate`.
#[derive(Debug, Args)]
#[command(
    subcommand_precedence_over_arg = true,
    after_help = "Example:\n  muster annotate job-42 open\n  muster annotate job-42 label export -o labelled.jsonl\n  muster annotate job-42 import labels.jsonl\n\nWhat the lines of the files are is in docs/job-file.md."
)]
pub struct AnnotateArgs {
    /// The job
    #[arg(value_parser = job_id)]
    pub job: JobId,
    /// Its stage; not needed if only one waits for people
    pub stage: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub what: AnnotateVerb,
}

/// What may be asked of such a stage.
#[derive(Debug, Subcommand)]
pub enum AnnotateVerb {
    /// Print the URL of the form
    Open(FormArgs),
    /// Show how far people are, and how they agree
    Status(FormArgs),
    /// Fetch the items with their labels so far, as JSON lines
    Export(ExportArgs),
    /// Bring labels, as JSON lines of item, who and label: all or none
    Import(ImportArgs),
    /// End it before every item has its labels, if the stage allows it
    Close(CloseArgs),
}

/// `annotate .. open` and `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster annotate job-42 open\n  muster annotate job-42 label status --json"
)]
pub struct FormArgs {
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `annotate .. export`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster annotate job-42 export -o labelled.jsonl")]
pub struct ExportArgs {
    /// Where to write; standard output unless set
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The artifacts of the workers: where the items of a stage that has ended are
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `annotate .. import`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster annotate job-42 import labels.jsonl")]
pub struct ImportArgs {
    /// The labels
    pub file: PathBuf,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `annotate .. close`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster annotate job-42 close --who ann")]
pub struct CloseArgs {
    /// Who says so; it is recorded
    #[arg(long)]
    pub who: String,
    #[command(flatten)]
    pub server: ServerArgs,
}
