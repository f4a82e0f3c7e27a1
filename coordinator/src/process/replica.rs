//! The replica's thread: waits for one input, takes all that are there, settles once, and performs the
//! outputs in order.
//!
//! It must never wait for anything but its inputs and its disk: what it gives to sockets goes into bounded
//! queues, and is dropped when they are full.

use super::RunError;
use super::inlet::{Read, Told};
use crate::api::Tails;
use crate::bus::Downlink;
use crate::peers::Outgoing;
use muster_protocol::envelope::Answer;
use muster_protocol::ids::{LogIndex, RaftId, Term};
use muster_replica::disk::Disk;
use muster_replica::{Core, Input, Now, Output, Role, Unanswered};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{oneshot, watch};

/// Inputs that are handled before the core settles, at most.
const INPUTS_PER_SETTLE_MAX: usize = 4096;

/// Who leads, as this coordinator knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What this one is.
    pub role: Role,
    /// Who leads, if known.
    pub leader: Option<RaftId>,
    /// In which term.
    pub term: Term,
}

/// What the replica tells everybody else.
pub struct Surroundings {
    /// To the other coordinators.
    pub peers: Outgoing,
    /// To the workers.
    pub downlink: Downlink,
    /// To those who read output.
    pub tails: Tails,
    /// Who leads.
    pub standing: watch::Sender<Standing>,
    /// How far the ledger goes.
    pub applied: watch::Sender<LogIndex>,
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Answer, Unanswered>>>;

/// The thread's own.
pub struct Replica<D: Disk> {
    /// What decides.
    pub core: Core,
    /// What keeps.
    pub disk: D,
    /// What it is told.
    pub told: Receiver<Told>,
    /// Whom it tells.
    pub around: Surroundings,
    /// From one tick to the next.
    pub tick: Duration,
}

impl<D: Disk> Replica<D> {
    /// Runs until it is told to stop, or cannot go on.
    pub fn run(mut self) -> Result<(), RunError> {
        let started = Instant::now();
        let mut next_tick = started;
        let mut outbox = Outbox { around: &self.around, waiting: Waiting::new(), halted: None };
        let (mut token, mut reads, mut stopping) = (0u64, Vec::<Read>::new(), false);
        while !stopping {
            let mut first = match self.told.recv_timeout(next_tick.saturating_duration_since(Instant::now()))
            {
                Ok(told) => Some(told),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let now = clocks(started);
            for _ in 0..INPUTS_PER_SETTLE_MAX {
                let Some(told) = first.take().or_else(|| self.told.try_recv().ok()) else { break };
                match told {
                    Told::Input(input, _room) => {
                        self.core.handle(now, *input, &mut |output| outbox.perform(output))
                    }
                    Told::Command(envelope, answered) => {
                        token += 1;
                        outbox.waiting.insert(token, answered);
                        self.core.handle(now, Input::Command { token, envelope: *envelope }, &mut |output| {
                            outbox.perform(output)
                        });
                    }
                    Told::Read(read) => reads.push(read),
                    Told::Stop => {
                        stopping = true;
                        break;
                    }
                }
            }
            for peer in self.around.peers.take_unreachable() {
                self.core.handle(now, Input::Unreachable { peer }, &mut |output| outbox.perform(output));
            }
            if Instant::now() >= next_tick {
                self.core.handle(now, Input::Tick, &mut |output| outbox.perform(output));
                // Ticks that were missed while the disk was slow are not made up for: they would start
                // elections.
                next_tick = (next_tick + self.tick).max(Instant::now() + self.tick / 2);
            }
            self.core.settle(clocks(started), &mut self.disk, &mut |output| outbox.perform(output))?;
            if let Some(reason) = outbox.halted.take() {
                return Err(RunError::Halted { reason });
            }
            let applied = self.core.state().applied();
            self.around.applied.send_if_modified(|known| std::mem::replace(known, applied) != applied);
            for read in reads.drain(..) {
                read(&self.core);
            }
        }
        self.disk.sync_ledger()?;
        Ok(())
    }
}

/// Performs outputs, each at once and so in order.
struct Outbox<'a> {
    around: &'a Surroundings,
    waiting: Waiting,
    halted: Option<String>,
}

impl Outbox<'_> {
    fn perform(&mut self, output: Output) {
        match output {
            Output::Peer { to, message } => self.around.peers.send(to, &message),
            Output::Down { identity, boot, envelope } => self.around.downlink.send(identity, boot, &envelope),
            Output::Answered { token, result } => {
                if let Some(answered) = self.waiting.remove(&token) {
                    // An error means that the client is gone; its answer is remembered.
                    let _ = answered.send(result);
                }
            }
            Output::Tail(chunk) => self.around.tails.give(chunk),
            Output::RoleChanged { role, leader, term } => {
                tracing::info!(role = role.word(), ?leader, term = term.0, "the role changed");
                self.around.standing.send_replace(Standing { role, leader, term });
            }
            Output::Halt { reason } => {
                tracing::error!(reason, "the coordinator must stop serving");
                self.halted.get_or_insert(reason);
            }
            // Those who watch read the ledger itself, so that none of them can miss or hold anything.
            Output::Applied(_) => {}
            Output::Replaced { index } => tracing::info!(%index, "the state came from the leader's snapshot"),
        }
    }
}

fn clocks(started: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Now { mono_ms: ms(started.elapsed()), wall_ms: ms(wall) }
}
