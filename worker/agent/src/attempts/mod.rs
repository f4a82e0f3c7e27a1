//! Attempts as processes: started, ended, listened to. What the agent decides is done here; nothing is
//! decided here.

mod environment;
mod leftovers;
mod output;
mod spawn;
mod supervise;
mod tails;
#[cfg(test)]
mod tests;
mod warden;

pub(crate) use environment::Surroundings;
pub(crate) use leftovers::end_leftovers;
pub(crate) use tails::Tails;
pub(crate) use warden::Warden;

use crate::agent::Input;
use crate::server::Callers;
use environment::Places;
use muster_protocol::attempt_call::AgentFrame;
use muster_protocol::bus::{Launch, Stream};
use muster_protocol::ids::AttemptId;
use output::End;
use spawn::Spawner;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use std::{fs, io};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Directories of ended attempts that are kept for their output; older ones are removed.
const ENDED_KEPT: usize = 1_000;

/// What all attempts use.
#[derive(Debug)]
pub(crate) struct Shared {
    surroundings: Surroundings,
    attempts: PathBuf,
    /// Where sockets lie whose path would be too long.
    sockets: PathBuf,
    spawner: Spawner,
    warden: Mutex<Warden>,
    callers: Callers,
    inputs: mpsc::Sender<Input>,
    outputs: Mutex<tails::Watched>,
    ended: Mutex<VecDeque<PathBuf>>,
}

/// The attempts that run.
#[derive(Debug)]
pub(crate) struct Attempts {
    shared: Arc<Shared>,
    kill_at: BTreeMap<AttemptId, watch::Sender<Option<Instant>>>,
}

impl Attempts {
    /// None yet. The warden is started by the caller, before anything else is open.
    pub(crate) fn new(
        attempts: PathBuf,
        surroundings: Surroundings,
        warden: Warden,
        inputs: mpsc::Sender<Input>,
    ) -> io::Result<Attempts> {
        let sockets = std::env::temp_dir().join(format!("muster-{}", std::process::id()));
        let shared = Shared {
            surroundings,
            ended: Mutex::new(kept(&attempts)?),
            attempts,
            sockets,
            spawner: Spawner::start()?,
            warden: Mutex::new(warden),
            callers: Callers::new(inputs.clone()),
            inputs,
            outputs: Mutex::default(),
        };
        Ok(Attempts { shared: Arc::new(shared), kill_at: BTreeMap::new() })
    }

    /// Starts an attempt; `Started` and `Exited` follow, or `Exited` alone.
    pub(crate) fn start(&mut self, launch: Launch) {
        self.kill_at.retain(|_, kill_at| !kill_at.is_closed());
        let (sender, kill_at) = watch::channel(None);
        self.kill_at.insert(launch.attempt, sender);
        tokio::spawn(supervise::supervise(self.shared.clone(), launch, kill_at));
    }

    /// SIGTERM now, SIGKILL after the grace.
    pub(crate) fn signal(&self, attempt: AttemptId, grace_ms: u64) {
        if let Some(kill_at) = self.kill_at.get(&attempt) {
            kill_at.send_replace(Some(Instant::now() + Duration::from_millis(grace_ms)));
        }
    }

    /// Answers an attempt's frame.
    pub(crate) fn reply(&self, caller: u64, frame: AgentFrame) {
        self.shared.callers.reply(caller, frame);
    }

    /// The lease holds for so long from now.
    pub(crate) fn lease(&self, remaining_ms: u64) {
        self.shared.warden().lease(remaining_ms);
    }

    /// What all attempts use.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }
}

impl Shared {
    fn places(&self, attempt: AttemptId) -> Places {
        let name = format!("{}-{}", attempt.task, attempt.epoch);
        let directory = self.attempts.join(&name);
        Places {
            scratch: directory.join("scratch"),
            launch: directory.join("launch"),
            socket: supervise::socket_path(&directory, &self.sockets, &name),
            directory,
        }
    }

    fn warden(&self) -> MutexGuard<'_, Warden> {
        self.warden.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outputs(&self) -> MutexGuard<'_, tails::Watched> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_output(&self, attempt: AttemptId, streams: [watch::Receiver<End>; 2]) {
        self.outputs().insert(attempt, streams);
    }

    fn forget_output(&self, attempt: AttemptId) {
        self.outputs().remove(&attempt);
    }

    fn output(&self, attempt: AttemptId, stream: Stream) -> Option<watch::Receiver<End>> {
        self.outputs().get(&attempt).map(|streams| streams[tails::place(stream)].clone())
    }

    /// This directory is in use again, if it ever was.
    fn unshelve(&self, places: &Places) {
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|directory| *directory != places.directory);
    }

    /// Keeps an ended attempt's output, and nothing else of it; removes the oldest.
    async fn shelve(&self, places: &Places) {
        let oldest = {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.push_back(places.directory.clone());
            let surplus = ended.len().saturating_sub(ENDED_KEPT);
            ended.drain(..surplus).collect::<Vec<_>>()
        };
        let places = places.clone();
        let clean = move || {
            // What is not there needs no removing.
            let _ = fs::remove_file(&places.socket);
            let _ = fs::remove_file(&places.launch);
            remove(&places.scratch);
            oldest.iter().for_each(|directory| remove(directory));
        };
        if let Err(error) = tokio::task::spawn_blocking(clean).await {
            tracing::warn!(%error, "cannot clean up after an attempt");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Only there if a path was too long; what is not there needs no removing.
        let _ = fs::remove_dir_all(&self.sockets);
    }
}

fn remove(directory: &Path) {
    match fs::remove_dir_all(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(%error, directory = %directory.display(), "cannot remove what an attempt left")
        }
    }
}

/// The directories of attempts of earlier lives, the oldest first.
fn kept(attempts: &Path) -> io::Result<VecDeque<PathBuf>> {
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(attempts)? {
        let entry = entry?;
        remove(&entry.path().join("scratch"));
        found.push((entry.metadata()?.modified()?, entry.path()));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}
