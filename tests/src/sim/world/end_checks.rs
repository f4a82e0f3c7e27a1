//! The checks at the end of a run: what is still unfinished, and what must hold once everything is finished.

use super::World;
use crate::sim::invariants::{machine_invariants_hold, replay_equals_live};
use muster_machine::views;
use muster_replica::disk::Disk;

impl World {
    /// What the cluster has not finished yet; `None`: everything is finished.
    pub(super) fn unfinished_work(&self) -> Option<String> {
        if self.jobs_left > 0 || self.clients.iter().any(|client| client.open_request.is_some()) {
            return Some(format!("{} jobs are not submitted, or a client waits", self.jobs_left));
        }
        let replicas: Vec<_> =
            self.coordinators.iter().filter_map(|coordinator| coordinator.replica()).collect();
        if replicas.len() < self.coordinators.len() {
            return Some("a coordinator does not run".to_string());
        }
        let heads: Vec<_> = replicas.iter().map(|replica| replica.state().chain()).collect();
        if heads.iter().any(|head| *head != heads[0]) {
            return Some(format!("the coordinators stand at {heads:?}"));
        }
        for job in self.oracle.acknowledged.jobs() {
            match views::job(replicas[0].state(), job) {
                Some(view) if view.terminal.is_some() => {}
                Some(view) => return Some(format!("{job} ({}) has not ended: {:?}", view.name, view.tasks)),
                None => return Some(format!("{job} is not in the state")),
            }
        }
        let incomplete = self.coordinators.iter().position(|coordinator| {
            let span = coordinator.disk.ledger();
            !span.is_complete() || Some(span.last) != coordinator.replica().map(|replica| replica.applied().0)
        });
        incomplete.map(|node| format!("the ledger of c{} is not complete", node + 1))
    }

    /// Checks every state and ledger after the last job has ended.
    pub(super) fn check_end_state(&mut self) {
        self.log(format_args!("everything is finished"));
        for node in 0..self.coordinators.len() {
            let coordinator = &self.coordinators[node];
            let Some(replica) = coordinator.replica() else { continue };
            let hash = replica.state().hash();
            self.trace.absorb(&hash.0);
            let result = machine_invariants_hold(replica.state())
                .and_then(|()| self.oracle.same_state.state(replica.applied().0, hash))
                .and_then(|()| replay_equals_live(&format!("c{}", node + 1), replica, &coordinator.disk));
            self.check(result);
        }
    }
}
