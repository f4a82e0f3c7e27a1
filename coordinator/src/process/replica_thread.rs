//! The replica's thread: waits for a message, takes all that are there, settles once, and performs the
//! outputs in order.
//!
//! It must never wait for anything but messages and its disk. What it hands to sockets goes into bounded
//! queues, and is dropped when they are full.

use super::run_error::RunError;
use crate::api::TailReaders;
use crate::bus::Downlink;
use crate::handle::{LeaderStatus, ReadFn, ReplicaMsg};
use crate::peers::PeerSender;
use muster_protocol::envelope::Answer;
use muster_protocol::ids::LogIndex;
use muster_replica::disk::Disk;
use muster_replica::{CommandError, Input, Now, Output, Replica};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{oneshot, watch};

/// Inputs that are handled before the replica settles.
const INPUTS_PER_SETTLE_MAX: usize = 4096;

/// Where outputs go.
pub struct Env {
    pub peers: PeerSender,
    pub downlink: Downlink,
    pub tails: TailReaders,
    pub leader_status: watch::Sender<LeaderStatus>,
    /// The last applied index, which is also how far the ledger goes.
    pub applied: watch::Sender<LogIndex>,
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Answer, CommandError>>>;

/// What the thread owns.
pub struct ReplicaThread<D: Disk> {
    pub replica: Replica,
    pub disk: D,
    pub messages: Receiver<ReplicaMsg>,
    pub env: Env,
    pub tick: Duration,
}

impl<D: Disk> ReplicaThread<D> {
    /// Runs until it is told to stop, or cannot go on.
    pub fn run(mut self) -> Result<(), RunError> {
        let started = Instant::now();
        let mut next_tick = started;
        let mut dispatcher = OutputDispatcher { env: &self.env, waiting: Waiting::new(), halted: None };
        let (mut token, mut reads, mut stopping) = (0u64, Vec::<ReadFn>::new(), false);
        while !stopping {
            let wait = next_tick.saturating_duration_since(Instant::now());
            let mut first = match self.messages.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let now = clocks(started);
            for _ in 0..INPUTS_PER_SETTLE_MAX {
                let Some(message) = first.take().or_else(|| self.messages.try_recv().ok()) else { break };
                match message {
                    ReplicaMsg::Input(input, _permit) => {
                        self.replica.handle(now, *input, &mut |output| dispatcher.perform(output))
                    }
                    ReplicaMsg::Command(envelope, answered) => {
                        token += 1;
                        dispatcher.waiting.insert(token, answered);
                        let input = Input::Command { token, envelope: *envelope };
                        self.replica.handle(now, input, &mut |output| dispatcher.perform(output));
                    }
                    ReplicaMsg::Read(read) => reads.push(read),
                    ReplicaMsg::Stop => {
                        stopping = true;
                        break;
                    }
                }
            }
            for peer in self.env.peers.take_unreachable() {
                let input = Input::Unreachable { peer };
                self.replica.handle(now, input, &mut |output| dispatcher.perform(output));
            }
            if Instant::now() >= next_tick {
                self.replica.handle(now, Input::Tick, &mut |output| dispatcher.perform(output));
                // Ticks missed while the disk was slow are not made up for: they would start elections.
                next_tick = (next_tick + self.tick).max(Instant::now() + self.tick / 2);
            }
            self.replica.settle(clocks(started), &mut self.disk, &mut |output| dispatcher.perform(output))?;
            if let Some(reason) = dispatcher.halted.take() {
                return Err(RunError::Halted { reason });
            }
            let applied = self.replica.state().applied();
            self.env.applied.send_if_modified(|known| std::mem::replace(known, applied) != applied);
            for read in reads.drain(..) {
                read(&self.replica);
            }
        }
        self.disk.sync_ledger()?;
        Ok(())
    }
}

/// Performs outputs, each at once and therefore in order.
struct OutputDispatcher<'a> {
    env: &'a Env,
    waiting: Waiting,
    halted: Option<String>,
}

impl OutputDispatcher<'_> {
    fn perform(&mut self, output: Output) {
        match output {
            Output::Peer { to, message } => self.env.peers.send(to, &message),
            Output::Down { identity, boot, envelope } => self.env.downlink.send(identity, boot, &envelope),
            Output::Answered { token, result } => {
                if let Some(answered) = self.waiting.remove(&token) {
                    // An error means that the client is gone; the state remembers its answer.
                    let _ = answered.send(result);
                }
            }
            Output::Tail(chunk) => self.env.tails.deliver(chunk),
            Output::RoleChanged { role, leader, term } => {
                tracing::info!(role = role.word(), ?leader, term = term.0, "the role changed");
                self.env.leader_status.send_replace(LeaderStatus { role, leader, term });
            }
            Output::Halt { reason } => {
                tracing::error!(reason, "the coordinator must stop serving");
                self.halted.get_or_insert(reason);
            }
            // Not asked for: watchers read the ledger itself.
            Output::Applied(_) => {}
            Output::SnapshotInstalled { index } => {
                tracing::info!(%index, "installed a snapshot from the leader")
            }
        }
    }
}

fn clocks(started: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Now { mono_ms: ms(started.elapsed()), wall_ms: ms(wall) }
}
