//! `muster demo`: runs a real job on a local cluster of processes, kills a leader and a worker meanwhile, and
//! checks the result.
//!
//! - [`scenario`]: the steps.
//! - [`observed`]: what the events show.
//! - [`report`]: figures and checks.
//!
//! It must leave nothing behind: its processes are killed by their ids, and its directory is deleted unless
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

const JOB_FILE: &str = include_str!("../../../examples/code-model.toml");
const JOB_FILE_NAME: &str = "examples/code-model.toml";

pub async fn demo(arguments: DemoArgs) -> Result<(), CliError> {
    let spec = spec(&arguments)?;
    let work_dir = WorkDir::new(&arguments)?;
    let config = ClusterConfig {
        name: "demo",
        coordinators: report::COORDINATORS,
        workers: scenario::WORKERS,
        cpus: Some(1),
        port: None,
    };
    let mut cluster = Cluster::start(config, work_dir.path()).await?;
    let limit = Duration::from_millis(arguments.limit);
    let signal = servers::shutdown_signal();
    tokio::pin!(signal);
    let mut interrupted = false;
    let scenario = tokio::time::timeout(limit, scenario::run(&mut cluster, &spec, arguments.json));
    let ended = tokio::select! {
        ended = scenario => match ended {
            Ok(ended) => ended,
            Err(_) => {
                let limit = render::time::duration(arguments.limit);
                Err(CliError::Other(anyhow!("the demo did not finish within {limit}")))
            }
        },
        signal = &mut signal => {
            interrupted = true;
            Err(CliError::Other(signal.err().unwrap_or_else(|| anyhow!("the demo was interrupted"))))
        }
    };
    if ended.is_err() && !interrupted {
        show_log_tails(&mut cluster);
    }
    cluster.end().await;
    drop(cluster);
    if let Some(kept) = work_dir.leave() {
        render::note(&format!("the demo's directory is {}", kept.display()));
    }
    let report = ended?;
    if arguments.json {
        render::json(&report)?;
    } else {
        render::out(&render::demo::report(&report, Style::of_stdout()))?;
    }
    if report.ok { Ok(()) } else { Err(CliError::Other(anyhow!("some checks failed"))) }
}

fn spec(arguments: &DemoArgs) -> Result<JobSpec, CliError> {
    match &arguments.job {
        Some(path) => Ok(jobfile::read(path)?),
        None => Ok(jobfile::read_text(JOB_FILE_NAME, JOB_FILE)?),
    }
}

/// Prints the ends of the logs, which are about to be deleted.
fn show_log_tails(cluster: &mut Cluster) {
    if let Some(exited) = cluster.unexpected_exit() {
        render::err(&exited);
        return;
    }
    for child in cluster.coordinators.iter().chain(&cluster.workers).flatten() {
        render::err(&format!("---- the last output in {}\n{}", child.log().display(), child.log_tail()));
    }
}

/// The directory of the demo.
enum WorkDir {
    /// Deleted at the end, also after a panic.
    Temporary(TempDir),
    Kept(PathBuf),
    /// Named by the user, and deleted at the end.
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
                "{} is not empty: the demo needs an empty directory",
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

    /// Deletes the directory unless it is kept; returns the kept one.
    fn leave(self) -> Option<PathBuf> {
        match self {
            WorkDir::Temporary(directory) => {
                if let Err(error) = directory.close() {
                    render::note(&format!("the temporary directory could not be deleted: {error}"));
                }
                None
            }
            WorkDir::Kept(path) => Some(path),
            WorkDir::Named(path) => {
                if let Err(error) = fs::remove_dir_all(&path) {
                    render::note(&format!("{} could not be deleted: {error}", path.display()));
                }
                None
            }
        }
    }
}
