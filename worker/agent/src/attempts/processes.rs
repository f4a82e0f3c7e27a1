//! The attempts that run on this worker.

use super::context::AttemptContext;
use super::environment::SpawnEnv;
use super::reaper::ProcessReaper;
use super::supervise::supervise;
use crate::machine::AgentInput;
use muster_protocol::attempt_call::AgentFrame;
use muster_protocol::bus::Launch;
use muster_protocol::ids::AttemptId;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct AttemptProcesses {
    context: Arc<AttemptContext>,
    kill_at: BTreeMap<AttemptId, watch::Sender<Option<Instant>>>,
}

impl AttemptProcesses {
    /// `attempts` is the directory in which each attempt gets one of its own.
    pub(crate) fn new(
        attempts: PathBuf,
        env: SpawnEnv,
        reaper: ProcessReaper,
        inputs: mpsc::Sender<AgentInput>,
    ) -> io::Result<AttemptProcesses> {
        let context = Arc::new(AttemptContext::new(attempts, env, reaper, inputs)?);
        Ok(AttemptProcesses { context, kill_at: BTreeMap::new() })
    }

    /// Starts an attempt; `Started` and `Exited` follow, or `Exited` alone.
    pub(crate) fn start(&mut self, launch: Launch) {
        self.kill_at.retain(|_, kill_at| !kill_at.is_closed());
        let (sender, kill_at) = watch::channel(None);
        self.kill_at.insert(launch.attempt, sender);
        tokio::spawn(supervise(self.context.clone(), launch, kill_at));
    }

    /// SIGTERM now, SIGKILL after the grace.
    pub(crate) fn signal(&self, attempt: AttemptId, grace_ms: u64) {
        if let Some(kill_at) = self.kill_at.get(&attempt) {
            kill_at.send_replace(Some(Instant::now() + Duration::from_millis(grace_ms)));
        }
    }

    /// Answers an attempt's frame.
    pub(crate) fn reply(&self, caller: u64, frame: AgentFrame) {
        self.context.socket.reply(caller, frame);
    }

    /// The lease holds for this long from now.
    pub(crate) fn lease(&self, remaining_ms: u64) {
        self.context.reaper().lease(remaining_ms);
    }

    pub(crate) fn context(&self) -> Arc<AttemptContext> {
        self.context.clone()
    }
}
