//! What the supervisors of all attempts share.

use super::environment::{AttemptPaths, SpawnEnv};
use super::output::{OutputEnds, StreamEnd};
use super::reaper::ProcessReaper;
use super::retention::EndedAttempts;
use super::spawn::Spawner;
use crate::machine::AgentInput;
use crate::socket::SocketServer;
use muster_protocol::bus::Stream;
use muster_protocol::ids::AttemptId;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, io};
use tokio::sync::{mpsc, watch};

#[derive(Debug)]
pub(crate) struct AttemptContext {
    pub(super) env: SpawnEnv,
    attempts: PathBuf,
    /// For sockets whose path would be too long elsewhere.
    sockets: PathBuf,
    pub(super) spawner: Spawner,
    reaper: Mutex<ProcessReaper>,
    pub(super) socket: SocketServer,
    pub(super) inputs: mpsc::Sender<AgentInput>,
    outputs: Mutex<OutputEnds>,
    pub(super) ended: EndedAttempts,
}

impl AttemptContext {
    pub(super) fn new(
        attempts: PathBuf,
        env: SpawnEnv,
        reaper: ProcessReaper,
        inputs: mpsc::Sender<AgentInput>,
    ) -> io::Result<AttemptContext> {
        Ok(AttemptContext {
            env,
            ended: EndedAttempts::find(&attempts)?,
            attempts,
            sockets: std::env::temp_dir().join(format!("muster-{}", std::process::id())),
            spawner: Spawner::start()?,
            reaper: Mutex::new(reaper),
            socket: SocketServer::new(inputs.clone()),
            inputs,
            outputs: Mutex::default(),
        })
    }

    pub(super) fn paths(&self, attempt: AttemptId) -> AttemptPaths {
        let name = format!("{}-{}", attempt.task, attempt.epoch);
        AttemptPaths::new(&self.attempts, &self.sockets, &name)
    }

    pub(super) fn reaper(&self) -> MutexGuard<'_, ProcessReaper> {
        self.reaper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_output(&self, attempt: AttemptId, streams: [watch::Receiver<StreamEnd>; 2]) {
        self.outputs().insert(attempt, streams);
    }

    pub(super) fn remove_output(&self, attempt: AttemptId) {
        self.outputs().remove(&attempt);
    }

    /// How long a running attempt's output is; `None` if it does not run.
    pub(super) fn output(&self, attempt: AttemptId, stream: Stream) -> Option<watch::Receiver<StreamEnd>> {
        let index = match stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        self.outputs().get(&attempt).map(|streams| streams[index].clone())
    }

    fn outputs(&self) -> MutexGuard<'_, OutputEnds> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AttemptContext {
    fn drop(&mut self) {
        // Exists only if a path was too long.
        let _ = fs::remove_dir_all(&self.sockets);
    }
}
