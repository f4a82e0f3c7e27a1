//! Arguments of `muster annotate`.

use super::client::ServerArgs;
use super::values::job_id;
use clap::{Args, Subcommand};
use muster_protocol::ids::JobId;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    subcommand_precedence_over_arg = true,
    after_help = "Example:\n  muster annotate job-42 open\n  muster annotate job-42 label export -o labelled.jsonl\n  muster annotate job-42 import labels.jsonl\n\nWhat the lines of the files are is in docs/job-file.md."
)]
pub struct AnnotateArgs {
    /// The job
    #[arg(value_parser = job_id)]
    pub job: JobId,
    /// The stage; may be left out if only one waits for labels
    pub stage: Option<String>,
    #[command(subcommand)]
    pub what: AnnotateVerb,
}

#[derive(Debug, Subcommand)]
pub enum AnnotateVerb {
    /// Print the URL of the form
    Open(FormArgs),
    /// Show how many labels there are and how far people agree
    Status(FormArgs),
    /// Fetch the items with their labels so far, as JSON lines
    Export(ExportArgs),
    /// Add labels from JSON lines with item, who and label; all of them or none
    Import(ImportArgs),
    /// End the stage before every item has its labels, if the stage allows it
    Close(CloseArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster annotate job-42 open\n  muster annotate job-42 label status --json"
)]
pub struct FormArgs {
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster annotate job-42 export -o labelled.jsonl")]
pub struct ExportArgs {
    /// The file to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The workers' artifact directory, for a stage that has ended
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster annotate job-42 import labels.jsonl")]
pub struct ImportArgs {
    /// A file of labels, as JSON lines
    pub file: PathBuf,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster annotate job-42 close --who ann")]
pub struct CloseArgs {
    /// Your name; it is recorded
    #[arg(long)]
    pub who: String,
    #[command(flatten)]
    pub server: ServerArgs,
}
