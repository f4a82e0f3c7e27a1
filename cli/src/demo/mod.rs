//! `muster demo`: a real job on a real cluster of processes, with a leader and a worker killed on the way,
//! and the proof at the end.
//!
//! - [`story`]: what is done, step by step.
//! - [`seen`]: what the events tell of it.
//! - [`report`]: the figures, and whether everything was as it should be.
//!
//! It must leave nothing behind: its processes end with it, by their ids, and its directory is deleted unless
//! it is to be kept.

mod report;
mod seen;
mod story;

pub use report::Report;

use crate::args::DemoArgs;
use crate::failure::Failure;
use crate::local::cluster::{Cluster, Shape};
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
pub async fn demo(arguments: DemoArgs) -> Result<(), Failure> {
    let spec = spec(&arguments)?;
    let place = Place::new(&arguments)?;
    let shape = Shape {
        name: "demo",
        coordinators: story::COORDINATORS,
        workers: story::WORKERS,
        cpus: Some(1),
        port: None,
    };
    let mut cluster = Cluster::start(shape, place.path()).await?;
    let limit = Duration::from_millis(arguments.limit);
    let told = servers::told_to_end();
    tokio::pin!(told);
    let mut interrupted = false;
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, story::run(&mut cluster, &spec, arguments.json)) => match ended {
            Ok(ended) => ended,
            Err(_) => Err(Failure::Broken(anyhow!("the demo was not done after {}", render::time::duration(arguments.limit)))),
        },
        told = &mut told => {
            interrupted = true;
            Err(Failure::Broken(told.err().unwrap_or_else(|| anyhow!("the demo was interrupted"))))
        }
    };
    if ended.is_err() && !interrupted {
        words_of_the_fallen(&mut cluster);
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
    if report.ok { Ok(()) } else { Err(Failure::Broken(anyhow!("not everything was as it should be"))) }
}

fn spec(arguments: &DemoArgs) -> Result<JobSpec, Failure> {
    match &arguments.job {
        Some(path) => Ok(jobfile::read(path)?),
        None => Ok(jobfile::read_text(JOB_FILE_NAME, JOB_FILE)?),
    }
}

/// When something went wrong, the logs are about to be deleted: their ends are shown.
fn words_of_the_fallen(cluster: &mut Cluster) {
    if let Some(fallen) = cluster.fallen() {
        render::err(&fallen);
        return;
    }
    for child in cluster.coordinators.iter().chain(&cluster.workers).flatten() {
        render::err(&format!("---- the end of {}\n{}", child.log().display(), child.last_words()));
    }
}

/// Where the demo takes place.
enum Place {
    /// A directory that is deleted at the end, also when this process panics.
    Temporary(TempDir),
    /// One that stays.
    Kept(PathBuf),
    /// One that a user named, and that is deleted at the end.
    Named(PathBuf),
}

impl Place {
    fn new(arguments: &DemoArgs) -> Result<Place, Failure> {
        let Some(named) = &arguments.data else {
            let temporary = tempfile::Builder::new()
                .prefix("muster-demo-")
                .tempdir()
                .context("make a temporary directory")?;
            return Ok(if arguments.keep {
                Place::Kept(temporary.keep())
            } else {
                Place::Temporary(temporary)
            });
        };
        let taken = fs::read_dir(named).is_ok_and(|mut entries| entries.next().is_some());
        if taken || named.is_file() {
            return Err(Failure::Input(format!(
                "{} is not empty: the demo begins with nothing",
                named.display()
            )));
        }
        fs::create_dir_all(named).with_context(|| format!("make the directory {}", named.display()))?;
        Ok(if arguments.keep { Place::Kept(named.clone()) } else { Place::Named(named.clone()) })
    }

    fn path(&self) -> &Path {
        match self {
            Place::Temporary(directory) => directory.path(),
            Place::Kept(path) | Place::Named(path) => path,
        }
    }

    /// Deletes what is not to be kept; what stays, if it does.
    fn leave(self) -> Option<PathBuf> {
        match self {
            Place::Temporary(directory) => {
                if let Err(error) = directory.close() {
                    render::note(&format!("the temporary directory stays: {error}"));
                }
                None
            }
            Place::Kept(path) => Some(path),
            Place::Named(path) => {
                if let Err(error) = fs::remove_dir_all(&path) {
                    render::note(&format!("{} stays: {error}", path.display()));
                }
                None
            }
        }
    }
}
