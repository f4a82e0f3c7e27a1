//! Checks an `Assign` again, now that it is applied: what no longer holds is left out.

use super::draft::Draft;
use crate::room::Room;
use crate::state::{Job, Phase};
use alloc::collections::{BTreeMap, BTreeSet};
use muster_protocol::command::{Assign, Assignment};
use muster_protocol::event::{Event, GangFormed, HintsUsed, TaskAssigned};
use muster_protocol::ids::{StageIndex, TaskId, WorkerId};
use muster_protocol::rejection::Rejection;

/// The workers and tasks that assignments touched so far.
#[derive(Default)]
struct Given<'a> {
    rooms: BTreeMap<WorkerId, Room<'a>>,
    tasks: BTreeSet<TaskId>,
}

impl<'a> Draft<'a> {
    pub fn assign(&mut self, assign: &Assign) -> Result<(), Rejection> {
        let mut given = Given::default();
        let mut rest = assign.assignments.as_slice();
        while let Some(next) = rest.first() {
            let Some((job, stage)) = self.placeable(&given, next) else {
                rest = &rest[1..];
                continue;
            };
            if !job.stage_spec(stage).gang {
                self.assign_one(&mut given, job, stage, next);
                rest = &rest[1..];
                continue;
            }
            let same = |one: &&Assignment| {
                one.attempt.task.job == job.id && job.stage_of(one.attempt.task.index) == Some(stage)
            };
            let (gang, others) = rest.split_at(rest.iter().take_while(same).count());
            self.assign_gang(&mut given, job, stage, gang);
            rest = others;
        }
        if !assign.hints.is_empty() && !self.events.is_empty() {
            self.events.push(Event::HintsUsed(HintsUsed { hints: assign.hints.clone() }));
        }
        Ok(())
    }

    /// The job and stage of a task that waits for exactly this attempt.
    fn placeable(&self, given: &Given<'a>, one: &Assignment) -> Option<(&'a Job, StageIndex)> {
        let task = one.attempt.task;
        let job = self.state.core.jobs.get(&task.job).filter(|job| job.phase == Phase::Open)?;
        let stage = job.stage_of(task.index)?;
        let waits =
            job.stages[usize::from(stage.0)].placeable.contains(task.index) && !given.tasks.contains(&task);
        let epoch = job.records.get(&task.index).map_or(0, |task| task.epoch);
        (waits && one.attempt.epoch == epoch.saturating_add(1)).then_some((job, stage))
    }

    fn room<'g>(&self, given: &'g mut Given<'a>, worker: WorkerId) -> Option<&'g mut Room<'a>> {
        let worker = self.state.worker(worker).filter(|worker| worker.takes_work())?;
        Some(given.rooms.entry(worker.id).or_insert_with(|| Room::of(worker)))
    }

    fn assign_one(&mut self, given: &mut Given<'a>, job: &'a Job, stage: StageIndex, one: &Assignment) {
        let request = &job.stage_spec(stage).request;
        let Some(room) = self.room(given, one.worker) else { return };
        if one.queued {
            if !room.may_queue(request) || !one.grant.gpus.is_empty() {
                return;
            }
            room.queue(request);
        } else {
            if !room.fits(request) || !room.may_grant(request, &one.grant) {
                return;
            }
            room.hold(request, &one.grant, job.short_ms(usize::from(stage.0)).is_none());
        }
        given.tasks.insert(one.attempt.task);
        self.push_assigned(one);
    }

    /// All ranks, in order, or none.
    fn assign_gang(&mut self, given: &mut Given<'a>, job: &'a Job, stage: StageIndex, gang: &[Assignment]) {
        let spec = job.stage_spec(stage);
        let first = job.stages[usize::from(stage.0)].first;
        let is_whole = gang.len() == spec.tasks as usize
            && gang.iter().zip(first..).all(|(one, rank)| one.attempt.task.index == rank);
        if !is_whole || !gang.iter().all(|one| !one.queued && self.placeable(given, one).is_some()) {
            return;
        }
        // Held on trial: a rank without room takes it all back.
        let mut trial: BTreeMap<WorkerId, Room<'a>> = BTreeMap::new();
        for one in gang {
            let Some(room) = self.room(given, one.worker) else { return };
            let room = trial.entry(one.worker).or_insert_with(|| room.clone());
            if !room.fits(&spec.request) || !room.may_grant(&spec.request, &one.grant) {
                return;
            }
            room.hold(&spec.request, &one.grant, true);
        }
        let rendezvous_worker = gang[0].worker;
        let Some(rendezvous_port) = trial.get_mut(&rendezvous_worker).and_then(Room::take_port) else {
            return;
        };
        given.rooms.extend(trial);
        for one in gang {
            given.tasks.insert(one.attempt.task);
            self.push_assigned(one);
        }
        let formation = job.stages[usize::from(stage.0)].formations + 1;
        self.events.push(Event::GangFormed(GangFormed {
            job: job.id,
            stage,
            formation,
            rendezvous_worker,
            rendezvous_port,
        }));
    }

    fn push_assigned(&mut self, one: &Assignment) {
        let event = TaskAssigned {
            attempt: one.attempt,
            worker: one.worker,
            grant: one.grant.clone(),
            queued: one.queued,
        };
        self.events.push(Event::TaskAssigned(event));
    }
}
