//! Checks an `Assign` again, now that it is applied: what no longer holds is left out.

use super::decider::Decider;
use crate::state::{Job, WorkerLoad};
use alloc::collections::BTreeMap;
use muster_protocol::command::{Assign, Assignment};
use muster_protocol::event::{Event, GangFormed, HintsUsed, TaskAssigned};
use muster_protocol::ids::{JobId, StageIndex, WorkerId};
use muster_protocol::rejection::Rejection;

impl Decider<'_> {
    pub fn assign(&mut self, assign: &Assign) -> Result<(), Rejection> {
        let mut rest = assign.assignments.as_slice();
        while let Some(next) = rest.first() {
            let Some((job, stage)) = self.runnable(next) else {
                rest = &rest[1..];
                continue;
            };
            if !job.stage_spec(stage).gang {
                self.assign_one(stage, next);
                rest = &rest[1..];
                continue;
            }
            let same = |one: &&Assignment| {
                one.attempt.task.job == job.id && job.stage_of(one.attempt.task.index) == Some(stage)
            };
            let (gang, others) = rest.split_at(rest.iter().take_while(same).count());
            self.assign_gang(next.attempt.task.job, stage, gang);
            rest = others;
        }
        // The scheduler has no use for hints yet and sends none; one that has says so in the log.
        if !assign.hints.is_empty() && self.has_events() {
            self.push(Event::HintsUsed(HintsUsed { hints: assign.hints.clone() }));
        }
        Ok(())
    }

    /// The job and stage of a task that waits for exactly this attempt.
    fn runnable(&self, one: &Assignment) -> Option<(&Job, StageIndex)> {
        let task = one.attempt.task;
        let job = self.state.job(task.job).filter(|job| job.is_open())?;
        let stage = job.stage_of(task.index)?;
        let waits = job.stages[usize::from(stage.0)].runnable.contains(task.index);
        (waits && one.attempt == job.next_attempt(stage, task.index)).then_some((job, stage))
    }

    fn assign_one(&mut self, stage: StageIndex, one: &Assignment) {
        let request = &self.job(one.attempt.task.job).stage_spec(stage).request;
        let worker = self.state.worker(one.worker).filter(|worker| worker.takes_work());
        let Some(worker) = worker else { return };
        let (load, hello) = (&worker.load, worker.hello());
        let holds = if one.queued {
            load.may_queue(hello, request) && one.grant.gpus.is_empty()
        } else {
            load.fits(hello, request) && load.may_grant(hello, request, &one.grant)
        };
        if holds {
            self.push_assigned(one);
        }
    }

    /// All ranks, in order, or none.
    fn assign_gang(&mut self, job: JobId, stage: StageIndex, gang: &[Assignment]) {
        if !gang.iter().all(|one| !one.queued && self.runnable(one).is_some()) {
            return;
        }
        let Some((rendezvous_port, formation)) = self.check_gang(self.job(job), stage, gang) else { return };
        let rendezvous_worker = gang[0].worker;
        gang.iter().for_each(|one| self.push_assigned(one));
        self.push(Event::GangFormed(GangFormed {
            job,
            stage,
            formation,
            rendezvous_worker,
            rendezvous_port,
        }));
    }

    /// The port and the number of a formation in which every rank has room; `None`: it is not whole, or
    /// does not fit.
    fn check_gang(&self, job: &Job, stage: StageIndex, gang: &[Assignment]) -> Option<(u16, u32)> {
        let spec = job.stage_spec(stage);
        let stage = &job.stages[usize::from(stage.0)];
        let is_whole = gang.len() == spec.tasks as usize
            && gang.iter().zip(stage.first..).all(|(one, rank)| one.attempt.task.index == rank);
        if !is_whole {
            return None;
        }
        // Held on trial: without room for one rank, none of them starts.
        let mut trial: BTreeMap<WorkerId, WorkerLoad> = BTreeMap::new();
        for one in gang {
            let worker = self.state.worker(one.worker).filter(|worker| worker.takes_work())?;
            let load = trial.entry(one.worker).or_insert_with(|| (*worker.load).clone());
            let fits = load.fits(worker.hello(), &spec.request)
                && load.may_grant(worker.hello(), &spec.request, &one.grant);
            if !fits {
                return None;
            }
            load.hold(&spec.request, &one.grant, true);
        }
        let rendezvous = self.state.worker(gang[0].worker)?;
        let port = rendezvous.load.free_port(rendezvous.hello())?;
        Some((port, stage.status.formations + 1))
    }

    fn push_assigned(&mut self, one: &Assignment) {
        self.push(Event::TaskAssigned(TaskAssigned {
            attempt: one.attempt,
            worker: one.worker,
            grant: one.grant.clone(),
            queued: one.queued,
        }));
    }
}
