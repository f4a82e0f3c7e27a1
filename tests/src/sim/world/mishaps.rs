//! What goes wrong, and how it is mended.

use super::{Event, World};
use crate::sim::faults::Fault;
use crate::sim::network::Place;
use muster_agent::agent::Input;
use muster_replica::Role;
use rand::RngExt;

/// When what could not go wrong now is tried again.
const AGAIN_MS: u64 = 400;
/// More entries than a snapshot leaves, and than come between two snapshots.
const ENTRIES_LACKED: u64 = 110;

impl World {
    pub(super) fn go_wrong(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        self.say(format_args!("{fault:?}"));
        match fault {
            Fault::KillLeader { midst, away_ms } => match (self.leader(), midst) {
                (Some(which), Some(operations)) => self.coordinators[which].disk.die_after(operations),
                (Some(which), None) => self.kill(which, away_ms),
                // There will be one again.
                (None, _) => self.at(AGAIN_MS, Event::Fault(fault)),
            },
            Fault::KillFollower { away_ms } => match self.some_follower() {
                Some(which) => self.kill(which, away_ms),
                None => self.at(AGAIN_MS, Event::Fault(fault)),
            },
            Fault::LoseFollower => match self.some_follower() {
                Some(which) => {
                    self.crash_coordinator(which);
                    self.coordinators[which].lost = true;
                    let entries = self.stats.entries + ENTRIES_LACKED;
                    self.at(AGAIN_MS, Event::StartBehind { which, entries });
                }
                None => self.at(AGAIN_MS, Event::Fault(fault)),
            },
            Fault::KillAll { away_ms } => {
                (0..self.coordinators.len()).for_each(|which| self.kill(which, away_ms))
            }
            Fault::PauseCoordinator { which, pause_ms } => {
                self.coordinators[which].paused_until = self.now_ms + pause_ms
            }
            Fault::IsolateCoordinator { which, hears, is_heard, for_ms } => {
                let others = (0..self.coordinators.len())
                    .map(Place::Coordinator)
                    .filter(|place| *place != Place::Coordinator(which));
                let others: Vec<Place> = others.collect();
                self.isolate(Place::Coordinator(which), &others, hears, is_heard, for_ms);
            }
            Fault::StepClock { which, by_ms } => self.coordinators[which].wall_off_ms += by_ms,
            Fault::KillAgent { which, away_ms } => {
                self.crash_agent(which);
                self.at(away_ms, Event::StartAgent { which });
            }
            Fault::PauseAgent { which, pause_ms } => {
                self.workers[which].paused_until = self.now_ms + pause_ms
            }
            Fault::IsolateWorker { which, hears, is_heard, for_ms } => {
                let others: Vec<Place> = (0..self.coordinators.len()).map(Place::Coordinator).collect();
                self.isolate(Place::Worker(which), &others, hears, is_heard, for_ms);
            }
            Fault::StopBroker { for_ms } => {
                self.network.broker_is_down = true;
                self.at(for_ms, Event::StartBroker);
            }
            Fault::Weather { lost_per_mille, repeated_per_mille, late_per_mille } => {
                self.network.lost_per_mille = lost_per_mille;
                self.network.repeated_per_mille = repeated_per_mille;
                self.network.late_per_mille = late_per_mille;
            }
        }
    }

    fn leader(&self) -> Option<usize> {
        // Two may think that they lead: the newer term is right.
        let leads = |which: &usize| {
            self.coordinators[*which].replica().is_some_and(|replica| replica.role() == Role::Leader)
        };
        (0..self.coordinators.len())
            .filter(leads)
            .max_by_key(|which| self.coordinators[*which].replica().map(|replica| replica.term()))
    }

    /// A running coordinator that does not lead, while there is one that does.
    fn some_follower(&mut self) -> Option<usize> {
        let leader = self.leader()?;
        let others = (0..self.coordinators.len())
            .filter(|which| *which != leader && self.coordinators[*which].replica().is_some());
        let others: Vec<usize> = others.collect();
        (!others.is_empty()).then(|| others[self.random.random_range(0..others.len())])
    }

    pub(super) fn start_behind(&mut self, which: usize, entries: u64) {
        let done = self.jobs_left == 0 && self.clients.iter().all(|client| client.asked.is_none());
        if self.stats.entries < entries && !done {
            self.at(AGAIN_MS, Event::StartBehind { which, entries });
            return;
        }
        self.coordinators[which].lost = false;
        self.start_coordinator(which);
    }

    fn kill(&mut self, which: usize, away_ms: u64) {
        self.crash_coordinator(which);
        self.at(away_ms, Event::StartCoordinator { which });
    }

    fn isolate(&mut self, one: Place, others: &[Place], hears: bool, is_heard: bool, for_ms: u64) {
        let mut cuts = Vec::new();
        for other in others {
            if !hears {
                cuts.push((*other, one));
            }
            if !is_heard {
                cuts.push((one, *other));
            }
        }
        for (from, to) in &cuts {
            self.network.set_cut(*from, *to, true);
        }
        self.at(for_ms, Event::Mend { cuts });
    }

    pub(super) fn mend(&mut self, cuts: &[(Place, Place)]) {
        for (from, to) in cuts {
            self.network.set_cut(*from, *to, false);
        }
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.say(format_args!("all is well from here on"));
        self.healed = true;
        self.network.heal();
        for which in 0..self.coordinators.len() {
            self.coordinators[which].paused_until = 0;
            self.start_coordinator(which);
        }
        for which in 0..self.workers.len() {
            self.workers[which].paused_until = 0;
            self.start_agent(which);
            self.tell_agent(which, Input::Reconnected);
        }
    }
}
