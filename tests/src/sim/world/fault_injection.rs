//! Injects faults, and heals them.

use super::{Event, World};
use crate::sim::faults::Fault;
use crate::sim::network::Endpoint;
use muster_agent::machine::AgentInput;
use muster_replica::Role;
use rand::RngExt;

/// When a fault that is not possible now is tried again.
const RETRY_MS: u64 = 400;
/// More entries than stay in the log after a snapshot, and than come between two snapshots.
const ENTRIES_MISSED: u64 = 110;

impl World {
    pub(super) fn inject(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        self.log(format_args!("{fault:?}"));
        match fault {
            Fault::KillLeader { disk_operations, away_ms } => match (self.leader(), disk_operations) {
                (Some(node), Some(operations)) => self.coordinators[node].disk.fail_after(operations),
                (Some(node), None) => self.kill(node, away_ms),
                // There will be a leader again.
                (None, _) => self.at(RETRY_MS, Event::Fault(fault)),
            },
            Fault::KillFollower { away_ms } => match self.random_follower() {
                Some(node) => self.kill(node, away_ms),
                None => self.at(RETRY_MS, Event::Fault(fault)),
            },
            Fault::LoseFollower => match self.random_follower() {
                Some(node) => {
                    self.crash_coordinator(node);
                    self.coordinators[node].lost = true;
                    let entries = self.stats.entries + ENTRIES_MISSED;
                    self.at(RETRY_MS, Event::RestartWhenBehind { node, entries });
                }
                None => self.at(RETRY_MS, Event::Fault(fault)),
            },
            Fault::KillAll { away_ms } => {
                (0..self.coordinators.len()).for_each(|node| self.kill(node, away_ms))
            }
            Fault::PauseCoordinator { node, pause_ms } => {
                self.coordinators[node].paused_until = self.now_ms + pause_ms
            }
            Fault::IsolateCoordinator { node, receives, sends, for_ms } => {
                let others = (0..self.coordinators.len())
                    .map(Endpoint::Coordinator)
                    .filter(|endpoint| *endpoint != Endpoint::Coordinator(node));
                let others: Vec<Endpoint> = others.collect();
                self.isolate(Endpoint::Coordinator(node), &others, receives, sends, for_ms);
            }
            Fault::StepClock { node, by_ms } => self.coordinators[node].wall_offset_ms += by_ms,
            Fault::KillAgent { node, away_ms } => {
                self.crash_agent(node);
                self.at(away_ms, Event::StartAgent { node });
            }
            Fault::PauseAgent { node, pause_ms } => self.workers[node].paused_until = self.now_ms + pause_ms,
            Fault::IsolateWorker { node, receives, sends, for_ms } => {
                let others: Vec<Endpoint> = (0..self.coordinators.len()).map(Endpoint::Coordinator).collect();
                self.isolate(Endpoint::Worker(node), &others, receives, sends, for_ms);
            }
            Fault::StopBroker { for_ms } => {
                self.network.broker_is_down = true;
                self.at(for_ms, Event::StartBroker);
            }
            Fault::NetworkQuality { lost_per_mille, repeated_per_mille, late_per_mille } => {
                self.network.lost_per_mille = lost_per_mille;
                self.network.repeated_per_mille = repeated_per_mille;
                self.network.late_per_mille = late_per_mille;
            }
        }
    }

    fn leader(&self) -> Option<usize> {
        // Two may believe that they lead: the newer term is right.
        let leads = |node: &usize| {
            self.coordinators[*node].replica().is_some_and(|replica| replica.role() == Role::Leader)
        };
        (0..self.coordinators.len())
            .filter(leads)
            .max_by_key(|node| self.coordinators[*node].replica().map(|replica| replica.term()))
    }

    /// A running coordinator that does not lead, while there is one that does.
    fn random_follower(&mut self) -> Option<usize> {
        let leader = self.leader()?;
        let others = (0..self.coordinators.len())
            .filter(|node| *node != leader && self.coordinators[*node].replica().is_some());
        let others: Vec<usize> = others.collect();
        (!others.is_empty()).then(|| others[self.random.random_range(0..others.len())])
    }

    pub(super) fn restart_when_behind(&mut self, node: usize, entries: u64) {
        let done = self.jobs_left == 0 && self.clients.iter().all(|client| client.open_request.is_none());
        if self.stats.entries < entries && !done {
            self.at(RETRY_MS, Event::RestartWhenBehind { node, entries });
            return;
        }
        self.coordinators[node].lost = false;
        self.start_coordinator(node);
    }

    fn kill(&mut self, node: usize, away_ms: u64) {
        self.crash_coordinator(node);
        self.at(away_ms, Event::StartCoordinator { node });
    }

    fn isolate(&mut self, one: Endpoint, others: &[Endpoint], receives: bool, sends: bool, for_ms: u64) {
        let mut cuts = Vec::new();
        for other in others {
            if !receives {
                cuts.push((*other, one));
            }
            if !sends {
                cuts.push((one, *other));
            }
        }
        for (from, to) in &cuts {
            self.network.set_cut(*from, *to, true);
        }
        self.at(for_ms, Event::Mend { cuts });
    }

    pub(super) fn mend(&mut self, cuts: &[(Endpoint, Endpoint)]) {
        for (from, to) in cuts {
            self.network.set_cut(*from, *to, false);
        }
    }

    /// Ends all faults.
    pub(super) fn heal(&mut self) {
        self.log(format_args!("the fault phase is over"));
        self.healed = true;
        self.network.heal();
        for node in 0..self.coordinators.len() {
            self.coordinators[node].paused_until = 0;
            self.start_coordinator(node);
        }
        for node in 0..self.workers.len() {
            self.workers[node].paused_until = 0;
            self.start_agent(node);
            self.deliver_to_agent(node, AgentInput::Reconnected);
        }
    }
}
