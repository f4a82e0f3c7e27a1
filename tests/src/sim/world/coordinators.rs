//! Coordinators: their inputs, their steps, and their outputs.

use super::{Event, TICK_MS, World};
use crate::sim::invariants::machine_invariants_hold;
use crate::sim::network::Endpoint;
use muster_protocol::ids::RaftId;
use muster_replica::apply::Applied;
use muster_replica::{Input, Output, PeerMessage, RaftBytes, Role};
use rand::RngExt;

/// After one step in this many, the state's hash and invariants are checked: that costs time in proportion to
/// the state.
const STATE_CHECK_EVERY: u32 = 24;

impl World {
    pub(super) fn start_coordinator(&mut self, node: usize) {
        if self.coordinators[node].replica().is_some() || self.coordinators[node].lost {
            return;
        }
        self.log(format_args!("c{} starts", node + 1));
        match self.coordinators[node].start(self.now_ms, &mut self.random) {
            Ok(()) => {
                let incarnation = self.coordinators[node].incarnation;
                let first = self.random.random_range(0..TICK_MS);
                self.at(first, Event::CoordinatorTick { node, incarnation });
            }
            Err(error) => self.fail("restart", format!("c{}: {error}", node + 1)),
        }
    }

    pub(super) fn crash_coordinator(&mut self, node: usize) {
        if self.coordinators[node].replica().is_some() {
            self.log(format_args!("c{} is killed", node + 1));
            self.stats.crashes += 1;
            self.coordinators[node].crash(&mut self.random);
        }
    }

    pub(super) fn coordinator_tick(&mut self, node: usize, incarnation: u32) {
        if self.coordinators[node].incarnation == incarnation && self.coordinators[node].replica().is_some() {
            self.at(TICK_MS, Event::CoordinatorTick { node, incarnation });
            self.deliver(node, Input::Tick);
        }
    }

    pub(super) fn peer_arrives(&mut self, to: usize, from: RaftId, message: PeerMessage) {
        if self.coordinators[to].replica().is_some() {
            self.stats.messages += 1;
            self.deliver(to, Input::Peer { from, message });
        }
    }

    /// Passes an input to a coordinator, which handles it at its next step.
    pub(super) fn deliver(&mut self, node: usize, input: Input) {
        let coordinator = &mut self.coordinators[node];
        if coordinator.replica().is_none() {
            return;
        }
        coordinator.inbox.push(input);
        if !coordinator.step_due {
            coordinator.step_due = true;
            let incarnation = coordinator.incarnation;
            let wait = coordinator.paused_until.saturating_sub(self.now_ms);
            self.at(wait, Event::CoordinatorStep { node, incarnation });
        }
    }

    pub(super) fn coordinator_step(&mut self, node: usize, incarnation: u32) {
        let coordinator = &mut self.coordinators[node];
        if coordinator.incarnation != incarnation || coordinator.replica().is_none() {
            return;
        }
        if coordinator.paused_until > self.now_ms {
            let wait = coordinator.paused_until - self.now_ms;
            self.at(wait, Event::CoordinatorStep { node, incarnation });
            return;
        }
        let mut outputs = Vec::new();
        let killed = coordinator.step(self.now_ms, &mut |output| outputs.push(output)).err();
        // A sync takes a while, and sometimes much longer.
        let sync_ms = if self.random.random_range(0..400) == 0 {
            self.random.random_range(20..200)
        } else {
            self.random.random_range(0..3)
        };
        for output in outputs {
            self.perform(node, sync_ms, output);
        }
        match killed {
            Some(error) if error.to_string().contains("killed") => {
                self.crash_coordinator(node);
                let away = self.random.random_range(100..3_000);
                self.at(away, Event::StartCoordinator { node });
            }
            Some(error) => self.fail("disk", format!("c{}: {error}", node + 1)),
            None if self.random.random_range(0..STATE_CHECK_EVERY) == 0 => self.check_state(node),
            None => {}
        }
    }

    fn check_state(&mut self, node: usize) {
        let Some(replica) = self.coordinators[node].replica() else { return };
        let hash = replica.state().hash();
        self.trace.absorb(&hash.0);
        let result = machine_invariants_hold(replica.state())
            .and_then(|()| self.oracle.same_state.state(replica.applied().0, hash));
        self.check(result);
    }

    fn perform(&mut self, node: usize, sync_ms: u64, output: Output) {
        match output {
            Output::Peer { to, message } => self.send_to_peer(node, sync_ms, to, message),
            Output::Down { identity, boot, envelope } => {
                self.send_down(node, sync_ms, identity, boot, envelope)
            }
            Output::Answered { token, result } => self.send_answer(node, sync_ms, token, result),
            Output::Applied(applied) => self.applied(node, &applied),
            Output::SnapshotInstalled { index } => {
                self.log(format_args!("c{} installed a snapshot of {index}", node + 1));
                self.stats.installs += 1;
            }
            Output::Tail(_) => {}
            Output::RoleChanged { role, leader, term } => {
                self.log(format_args!(
                    "c{} is {} in term {term}, the leader is {leader:?}",
                    node + 1,
                    role.word()
                ));
                if role == Role::Leader {
                    self.stats.elections += 1;
                }
            }
            Output::Halt { reason } => self.fail("same state", format!("c{} halts: {reason}", node + 1)),
        }
    }

    fn applied(&mut self, node: usize, applied: &Applied) {
        let index = applied.block.index;
        match self.oracle.same_state.chain(index.0, applied.block.head) {
            Ok(true) => {
                self.stats.entries += 1;
                for record in &applied.records {
                    self.trace.log(self.now_ms, format_args!("  {index} {:?}", record.event));
                }
                let result = self.oracle.observe_entry(&applied.records);
                self.check(result);
            }
            Ok(false) => {}
            Err(failure) => self.fail(failure.invariant, format!("c{}: {}", node + 1, failure.what)),
        }
    }

    fn send_to_peer(&mut self, node: usize, sync_ms: u64, to: RaftId, message: PeerMessage) {
        let from = RaftId(node as u64 + 1);
        let Some(to) = usize::try_from(to.0 - 1).ok().filter(|to| *to < self.coordinators.len()) else {
            return;
        };
        let kind = match &message {
            PeerMessage::Raft(RaftBytes { bytes }) => format!("raft, {} bytes", bytes.len()),
            other => other.name().to_string(),
        };
        let delays =
            self.network.delays_ms(Endpoint::Coordinator(node), Endpoint::Coordinator(to), &mut self.random);
        self.log(format_args!("c{} to c{}: {kind}, {} times", node + 1, to + 1, delays.len()));
        self.stats.lost += u64::from(delays.is_empty());
        // Encoded and decoded, as on a real connection.
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
