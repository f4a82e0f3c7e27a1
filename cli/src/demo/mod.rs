//! `muster demo`: a real job on a real cluster of processes, with a leader and a worker killed on the way,
//! and the proof at the end.
//!
//! - [`scenario`]: what is done, step by step.
//! - [`observed`]: what the events tell of it.
//! - [`report`]: the figures, and whether everything was as it should be.
//!
//! It must leave nothing behind: its processes end with it, by their ids, and its directory is deleted unless
//! it is to be kept.

mod observed;
mod report;
mod scenario;

pub use report::DemoReport;

use crate::args::DemoArgs;
use crate::error::CliError;
use crate::local::cluster::{Cluster, ClusterConfig};
use crate::render;
use crate::render::style::Style;
use crate::{jobfile, servers};
use anyhow::{Context, anyhow};
use muster_protocol::spec::JobSpec;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The job.
const JOB_FILE: &str = include_str!("../../../examples/code-model.toml");
/// Where it is, for people.
const JOB_FILE_NAME: &str = "examples/code-model.toml";

/// Runs the demo.
pub async fn demo(arguments: DemoArgs) -> Result<(), CliError> {
    let spec = spec(&arguments)?;
    let place = WorkDir::new(&arguments)?;
    let shape = ClusterConfig {
        name: "demo",
        coordinators: report::COORDINATORS,
        workers: scenario::WORKERS,
        cpus: Some(1),
        port: None,
    };
    let mut cluster = Cluster::start(shape, place.path()).await?;
    let limit = Duration::from_millis(arguments.limit);
    let told = servers::shutdown_signal();
    tokio::pin!(told);
    let mut interrupted = false;
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, scenario::run(&mut cluster, &spec, arguments.json)) => match ended {
            Ok(ended) => ended,
            Err(_) => Err(CliError::Other(anyhow!("the demo was not done after {}", render::time::duration(arguments.limit)))),
        },
        told = &mut told => {
            interrupted = true;
            Err(CliError::Other(told.err().unwrap_or_else(|| anyhow!("the demo was interrupted"))))
        }
    };
    if ended.is_err() && !interrupted {
        show_log_tails(&mut cluster);
    }
    cluster.end().await;
    drop(cluster);
    if let Some(kept) = place.leave() {
        render::note(&format!("everything is kept in {}", kept.display()));
    }
    let report = ended?;
    if arguments.json {
        render::json(&report)?;
    } else {
        render::out(&render::demo::report(&report, Style::of_stdout()))?;
    }
    if report.ok { Ok(()) } else { Err(CliError::Other(anyhow!("not everything was as it should be"))) }
}

fn spec(arguments: &DemoArgs) -> Result<JobSpec, CliError> {
    match &arguments.job {
        Some(path) => Ok(jobfile::read(path)?),
        None => Ok(jobfile::read_text(JOB_FILE_NAME, JOB_FILE)?),
    }
}

/// When something went wrong, the logs are about to be deleted: their ends are shown.
fn show_log_tails(cluster: &mut Cluster) {
    if let Some(exited) = cluster.exited() {
        render::err(&exited);
        return;
    }
    for child in cluster.coordinators.iter().chain(&cluster.workers).flatten() {
        render::err(&format!("---- the end of {}\n{}", child.log().display(), child.log_tail()));
    }
}

/// Where the demo takes place.
enum WorkDir {
    /// A directory that is deleted at the end, also when this process panics.
    Temporary(TempDir),
    /// One that stays.
    Kept(PathBuf),
    /// One that a user named, and that is deleted at the end.
    Named(PathBuf),
}

impl WorkDir {
    fn new(arguments: &DemoArgs) -> Result<WorkDir, CliError> {
        let Some(named) = &arguments.data else {
            let temporary = tempfile::Builder::new()
                .prefix("muster-demo-")
                .tempdir()
                .context("make a temporary directory")?;
            return Ok(if arguments.keep {
                WorkDir::Kept(temporary.keep())
            } else {
                WorkDir::Temporary(temporary)
            });
        };
        let taken = fs::read_dir(named).is_ok_and(|mut entries| entries.next().is_some());
        if taken || named.is_file() {
            return Err(CliError::Input(format!(
                "{} is not empty: the demo begins with nothing",
                named.display()
            )));
        }
        fs::create_dir_all(named).with_context(|| format!("make the directory {}", named.display()))?;
        Ok(if arguments.keep { WorkDir::Kept(named.clone()) } else { WorkDir::Named(named.clone()) })
    }

    fn path(&self) -> &Path {
        match self {
            WorkDir::Temporary(directory) => directory.path(),
            WorkDir::Kept(path) | WorkDir::Named(path) => path,
        }
    }

    /// Deletes what is not to be kept; what stays, if it does.
    fn leave(self) -> Option<PathBuf> {
        match self {
            WorkDir::Temporary(directory) => {
                if let Err(error) = directory.close() {
                    render::note(&format!("the temporary directory stays: {error}"));
                }
                None
            }
            WorkDir::Kept(path) => Some(path),
            WorkDir::Named(path) => {
                if let Err(error) = fs::remove_dir_all(&path) {
                    render::note(&format!("{} stays: {error}", path.display()));
                }
                None
            }
        }
    }
}
