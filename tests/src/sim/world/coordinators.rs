//! Coordinators: what arrives at them, their steps, and what comes of these.

use super::{Event, TICK_MS, World};
use crate::sim::invariants::state_holds;
use crate::sim::network::Place;
use muster_protocol::ids::RaftId;
use muster_replica::apply::Applied;
use muster_replica::{Input, Output, PeerMessage, RaftBytes, Role};
use rand::RngExt;

/// One settle in so many is looked at as a whole: the state's hash and invariants cost what exists.
const LOOK_EVERY: u32 = 24;

impl World {
    pub(super) fn start_coordinator(&mut self, which: usize) {
        if self.coordinators[which].replica().is_some() || self.coordinators[which].lost {
            return;
        }
        self.say(format_args!("c{} starts", which + 1));
        match self.coordinators[which].start(self.now_ms, &mut self.random) {
            Ok(()) => {
                let life = self.coordinators[which].life;
                let first = self.random.random_range(0..TICK_MS);
                self.at(first, Event::CoordinatorTick { which, life });
            }
            Err(error) => self.fail("restart", format!("c{}: {error}", which + 1)),
        }
    }

    pub(super) fn crash_coordinator(&mut self, which: usize) {
        if self.coordinators[which].replica().is_some() {
            self.say(format_args!("c{} is killed", which + 1));
            self.stats.crashes += 1;
            self.coordinators[which].crash(&mut self.random);
        }
    }

    pub(super) fn coordinator_tick(&mut self, which: usize, life: u32) {
        if self.coordinators[which].life == life && self.coordinators[which].replica().is_some() {
            self.at(TICK_MS, Event::CoordinatorTick { which, life });
            self.give(which, Input::Tick);
        }
    }

    pub(super) fn peer_arrives(&mut self, to: usize, from: RaftId, message: PeerMessage) {
        if self.coordinators[to].replica().is_some() {
            self.stats.messages += 1;
            self.give(to, Input::Peer { from, message });
        }
    }

    /// Puts an input before a coordinator, which takes up everything at its next step.
    pub(super) fn give(&mut self, which: usize, input: Input) {
        let coordinator = &mut self.coordinators[which];
        if coordinator.replica().is_none() {
            return;
        }
        coordinator.inbox.push(input);
        if !coordinator.step_due {
            coordinator.step_due = true;
            let life = coordinator.life;
            let wait = coordinator.paused_until.saturating_sub(self.now_ms);
            self.at(wait, Event::CoordinatorStep { which, life });
        }
    }

    pub(super) fn coordinator_step(&mut self, which: usize, life: u32) {
        let coordinator = &mut self.coordinators[which];
        if coordinator.life != life || coordinator.replica().is_none() {
            return;
        }
        if coordinator.paused_until > self.now_ms {
            let wait = coordinator.paused_until - self.now_ms;
            self.at(wait, Event::CoordinatorStep { which, life });
            return;
        }
        let mut outputs = Vec::new();
        let killed = coordinator.step(self.now_ms, &mut |output| outputs.push(output)).err();
        // A sync takes its time, and a disk has its moods.
        let sync_ms = if self.random.random_range(0..400) == 0 {
            self.random.random_range(20..200)
        } else {
            self.random.random_range(0..3)
        };
        for output in outputs {
            self.perform(which, sync_ms, output);
        }
        match killed {
            Some(error) if error.to_string().contains("killed") => {
                self.crash_coordinator(which);
                let away = self.random.random_range(100..3_000);
                self.at(away, Event::StartCoordinator { which });
            }
            Some(error) => self.fail("disk", format!("c{}: {error}", which + 1)),
            None if self.random.random_range(0..LOOK_EVERY) == 0 => self.look_at(which),
            None => {}
        }
    }

    fn look_at(&mut self, which: usize) {
        let Some(replica) = self.coordinators[which].replica() else { return };
        let hash = replica.state().hash();
        self.trace.absorb(&hash.0);
        let verdict = state_holds(replica.state())
            .and_then(|()| self.oracle.same_state.state(replica.applied().0, hash));
        self.hold(verdict);
    }

    fn perform(&mut self, which: usize, sync_ms: u64, output: Output) {
        match output {
            Output::Peer { to, message } => self.send_to_peer(which, sync_ms, to, message),
            Output::Down { identity, boot, envelope } => {
                self.send_down(which, sync_ms, identity, boot, envelope)
            }
            Output::Answered { token, result } => self.send_answer(which, sync_ms, token, result),
            Output::Applied(applied) => self.applied(which, &applied),
            Output::SnapshotInstalled { index } => {
                self.say(format_args!("c{} installed a snapshot of {index}", which + 1));
                self.stats.installs += 1;
            }
            Output::Tail(_) => {}
            Output::RoleChanged { role, leader, term } => {
                self.say(format_args!(
                    "c{} is {} in term {term}, the leader is {leader:?}",
                    which + 1,
                    role.word()
                ));
                if role == Role::Leader {
                    self.stats.elections += 1;
                }
            }
            Output::Halt { reason } => self.fail("same state", format!("c{} halts: {reason}", which + 1)),
        }
    }

    fn applied(&mut self, which: usize, applied: &Applied) {
        let index = applied.block.index;
        match self.oracle.same_state.chain(index.0, applied.block.head) {
            Ok(true) => {
                self.stats.entries += 1;
                for record in &applied.records {
                    self.trace.say(self.now_ms, format_args!("  {index} {:?}", record.event));
                }
                let verdict = self.oracle.entry(&applied.records);
                self.hold(verdict);
            }
            Ok(false) => {}
            Err(failure) => self.fail(failure.invariant, format!("c{}: {}", which + 1, failure.what)),
        }
    }

    fn send_to_peer(&mut self, which: usize, sync_ms: u64, to: RaftId, message: PeerMessage) {
        let from = RaftId(which as u64 + 1);
        let Some(to) = usize::try_from(to.0 - 1).ok().filter(|to| *to < self.coordinators.len()) else {
            return;
        };
        let kind = match &message {
            PeerMessage::Raft(RaftBytes { bytes }) => format!("raft, {} bytes", bytes.len()),
            other => other.name().to_string(),
        };
        let delays =
            self.network.delays_ms(Place::Coordinator(which), Place::Coordinator(to), &mut self.random);
        self.say(format_args!("c{} to c{}: {kind}, {} times", which + 1, to + 1, delays.len()));
        self.stats.lost += u64::from(delays.is_empty());
        // What goes over the wire is bytes.
        let bytes = message.to_bytes();
        self.trace.absorb(&bytes);
        for delay in delays {
            match PeerMessage::from_bytes(&bytes) {
                Ok(message) => self.at(sync_ms + delay, Event::Peer { to, from, message }),
                Err(error) => self.fail("codec", error.to_string()),
            }
        }
    }
}
