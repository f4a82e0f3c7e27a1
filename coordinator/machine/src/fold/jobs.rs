//! How events about jobs and stages change the state.

use crate::state::{Child, Job, JobStatus, Phase, Stage, StageStatus, Stages, State, Task, TaskState};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use muster_protocol::event::{JobCancelled, JobEnded, JobSubmitted, StageEvent, TasksAddedEvent};
use muster_protocol::ids::JobId;
use muster_protocol::limits;
use muster_protocol::outcome::Terminal;
use muster_protocol::spec::TaskRef;

impl State {
    pub(super) fn job_submitted(&mut self, event: &JobSubmitted) {
        if self.records.jobs.contains_key(&event.job) {
            return;
        }
        let mut first: u32 = 0;
        let mut stages = Vec::with_capacity(event.spec.stages.len());
        for spec in &event.spec.stages {
            stages.push(Stage::new(first, spec));
            first = first.saturating_add(spec.tasks);
        }
        let job = Job {
            id: event.job,
            actor: event.actor.clone(),
            namespace: event.namespace.clone(),
            spec: event.spec.clone(),
            submitted_ms: self.records.now.log_ms,
            submitted_wall_ms: self.records.now.wall_ms,
            first_child: first,
            status: JobStatus { phase: Phase::Open, active: 0 }.into(),
            stages: Stages::from(stages),
            children: Default::default(),
            tasks: Default::default(),
            ended_tasks: Default::default(),
            progress: Default::default(),
            blocked: Default::default(),
            dependents: Default::default(),
            additions: Default::default(),
        };
        let header = self.records.header.edit(self.tx);
        header.next_job = header.next_job.max(event.job.0 + 1);
        self.records.jobs.insert(event.job, job, self.tx);
        self.index.totals.edit(self.tx).open_jobs += 1;
    }

    pub(super) fn job_cancelled(&mut self, event: &JobCancelled) {
        let Some(job) = self.records.jobs.edit(&event.job, self.tx) else { return };
        job.status.edit(self.tx).phase = Phase::Cancelling { reason: event.reason.clone() };
        self.index.note_job(job, self.tx);
    }

    pub(super) fn job_ended(&mut self, event: &JobEnded) {
        let tx = self.tx;
        let now = self.records.now.log_ms;
        let job = self.records.jobs.edit(&event.job, tx);
        let Some(job) = job.filter(|job| !job.has_ended()) else { return };
        job.status.edit(tx).phase =
            Phase::Ended { terminal: event.terminal, reason: event.reason.clone(), at: now };
        self.index.note_job(job, tx);
        // Tasks that never started are cancelled with their job: ranges, not events of their own.
        for stage in job.stages.iter_mut() {
            let never = [stage.waiting.take(tx), stage.runnable.take(tx)];
            never.into_iter().for_each(|set| stage.cancelled.union_with(set, tx));
        }
        self.index.totals.edit(tx).open_jobs -= 1;
        self.records.ended.push_back(event.job, tx);
        while self.records.ended.len() > limits::ENDED_JOBS_KEPT {
            if let Some(oldest) = self.records.ended.front().copied() {
                self.records.jobs.remove(&oldest, tx);
            }
            self.records.ended.remove(0, tx);
        }
    }

    pub(super) fn job_retried(&mut self, id: JobId) {
        let tx = self.tx;
        let Some(job) = self.records.jobs.edit(&id, tx).filter(|job| job.has_ended()) else { return };
        job.status.edit(tx).phase = Phase::Open;
        let unsuccessful = |ended: &Terminal| match ended {
            Terminal::Failed | Terminal::Cancelled => true,
            Terminal::Succeeded => false,
        };
        let again: Vec<(u32, Task)> = (job.ended_tasks.iter())
            .filter(|(_, ended)| unsuccessful(&ended.terminal))
            .map(|(number, ended)| {
                let mut history = ended.history.clone();
                history.retries = 0;
                (*number, Task { history, state: TaskState::Idle })
            })
            .collect();
        for (number, task) in again {
            job.ended_tasks.remove(&number, tx);
            job.tasks.insert(number, task.into(), tx);
        }
        for at in 0..job.stages.len() {
            let stage = &mut job.stages[at];
            let again = [stage.failed.take(tx), stage.cancelled.take(tx)];
            again.into_iter().for_each(|set| stage.waiting.union_with(set, tx));
            if stage.status.ready {
                job.make_runnable(at, tx);
            }
        }
        self.index.note_job(job, tx);
        self.index.totals.edit(tx).open_jobs += 1;
        if let Some(at) = self.records.ended.iter().position(|ended| *ended == id) {
            self.records.ended.remove(at, tx);
        }
    }

    pub(super) fn stage_readied(&mut self, event: StageEvent) {
        let Some(job) = self.records.jobs.edit(&event.job, self.tx) else { return };
        let at = usize::from(event.stage.0);
        let Some(stage) = job.stages.get_mut(at) else { return };
        stage.status.edit(self.tx).ready = true;
        job.make_runnable(at, self.tx);
        self.index.note_ready(job, at, self.tx);
    }

    pub(super) fn change_stage(&mut self, event: StageEvent, change: impl FnOnce(&mut StageStatus)) {
        let job = self.records.jobs.edit(&event.job, self.tx);
        if let Some(stage) = job.and_then(|job| job.stages.get_mut(usize::from(event.stage.0))) {
            change(stage.status.edit(self.tx));
        }
    }

    pub(super) fn tasks_added(&mut self, event: &TasksAddedEvent) {
        let tx = self.tx;
        let Some(job) = self.records.jobs.edit(&event.parent.task.job, tx) else { return };
        let parent = event.parent.task.index;
        for spec in &event.children {
            let at = usize::from(spec.stage.0);
            if at >= job.stages.len() {
                continue;
            }
            let number = job.task_count();
            let place = job.stage_tasks(at);
            let after: BTreeSet<u32> = spec.after.iter().map(task_number).collect();
            let unmet = after.into_iter().filter(|task| job.terminal_of(*task) != Some(Terminal::Succeeded));
            let unmet: Vec<u32> = unmet.collect();
            let child = Child { parent: Some(parent), stage: spec.stage, place, params: spec.params.clone() };
            job.children.push_back(child, tx);
            for task in &unmet {
                if !job.dependents.contains_key(task) {
                    job.dependents.insert(*task, Default::default(), tx);
                }
                if let Some(dependents) = job.dependents.edit(task, tx) {
                    dependents.push_back(number, tx);
                }
            }
            if !unmet.is_empty() {
                job.blocked.insert(number, (unmet.len() as u32).into(), tx);
            }
            let stage = &mut job.stages[at];
            stage.joined.push_back(number, tx);
            if stage.status.ready && unmet.is_empty() {
                stage.runnable.insert(number, tx);
            } else {
                stage.waiting.insert(number, tx);
            }
            self.index.note_ready(job, at, tx);
        }
        let added = (event.first, event.children.len() as u32);
        job.additions.insert((parent, event.request), added.into(), tx);
    }
}

fn task_number(task: &TaskRef) -> u32 {
    match task {
        TaskRef::Existing(number) | TaskRef::New(number) => number.index,
    }
}
