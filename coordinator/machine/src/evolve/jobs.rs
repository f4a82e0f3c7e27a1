//! How events about jobs and stages change the state.

use crate::state::{Child, Index, Job, Phase, Stage, State, TaskState};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem;
use muster_protocol::event::{JobCancelled, JobEnded, JobSubmitted, StageEvent, TasksAddedEvent};
use muster_protocol::ids::JobId;
use muster_protocol::interval_set::IntervalSet;
use muster_protocol::limits;
use muster_protocol::outcome::Terminal;
use muster_protocol::spec::{StageSpec, TaskRef};

impl State {
    pub(super) fn job_submitted(&mut self, event: &JobSubmitted) {
        if self.core.jobs.contains_key(&event.job) {
            return;
        }
        let mut first: u32 = 0;
        let mut stages = Vec::with_capacity(event.spec.stages.len());
        for spec in &event.spec.stages {
            stages.push(new_stage(first, spec));
            first = first.saturating_add(spec.tasks);
        }
        let job = Job {
            id: event.job,
            actor: event.actor.clone(),
            namespace: event.namespace.clone(),
            spec: event.spec.clone(),
            submitted_ms: self.core.now.log_ms,
            submitted_wall_ms: self.core.now.wall_ms,
            phase: Phase::Open,
            stages,
            base: first,
            children: Vec::new(),
            records: BTreeMap::new(),
            active: BTreeSet::new(),
            live: 0,
            blocked: BTreeMap::new(),
            dependents: BTreeMap::new(),
            additions: BTreeMap::new(),
        };
        self.core.next_job = self.core.next_job.max(event.job.0 + 1);
        self.core.jobs.insert(event.job, job);
        self.index.open_jobs += 1;
    }

    pub(super) fn job_cancelled(&mut self, event: &JobCancelled) {
        let Some(job) = self.core.jobs.get_mut(&event.job) else { return };
        job.phase = Phase::Cancelling { reason: event.reason.clone() };
        note_all(&mut self.index, job);
    }

    pub(super) fn job_ended(&mut self, event: &JobEnded) {
        let Some(job) = self.core.jobs.get_mut(&event.job).filter(|job| !job.has_ended()) else { return };
        job.phase =
            Phase::Ended { terminal: event.terminal, reason: event.reason.clone(), at: self.core.now.log_ms };
        note_all(&mut self.index, job);
        // Tasks that never started are cancelled with their job: ranges, not events of their own.
        for stage in &mut job.stages {
            let never = [mem::take(&mut stage.waiting), mem::take(&mut stage.placeable)];
            never.into_iter().for_each(|set| stage.cancelled.union_with(set));
        }
        self.index.open_jobs -= 1;
        self.core.ended.push_back(event.job);
        while self.core.ended.len() > limits::ENDED_JOBS_KEPT {
            if let Some(oldest) = self.core.ended.pop_front() {
                self.core.jobs.remove(&oldest);
            }
        }
    }

    pub(super) fn job_retried(&mut self, id: JobId) {
        let Some(job) = self.core.jobs.get_mut(&id).filter(|job| job.has_ended()) else { return };
        job.phase = Phase::Open;
        for (number, task) in &mut job.records {
            match &task.state {
                TaskState::Ended { terminal: Terminal::Failed | Terminal::Cancelled, .. } => {
                    task.state = TaskState::Idle;
                    task.retries = 0;
                    job.active.insert(*number);
                }
                TaskState::Ended { terminal: Terminal::Succeeded, .. }
                | TaskState::Idle
                | TaskState::Backoff { .. }
                | TaskState::Live(_)
                | TaskState::Parted => {}
            }
        }
        for stage in &mut job.stages {
            let again = [mem::take(&mut stage.failed), mem::take(&mut stage.cancelled)];
            again.into_iter().for_each(|set| stage.waiting.union_with(set));
            if stage.ready {
                make_placeable(stage, &job.blocked);
            }
        }
        note_all(&mut self.index, job);
        self.index.open_jobs += 1;
        self.core.ended.retain(|ended| *ended != id);
    }

    pub(super) fn stage_readied(&mut self, event: StageEvent) {
        let Some(job) = self.core.jobs.get_mut(&event.job) else { return };
        let at = usize::from(event.stage.0);
        let Some(stage) = job.stages.get_mut(at) else { return };
        stage.ready = true;
        make_placeable(stage, &job.blocked);
        self.index.note_ready(job, at);
    }

    pub(super) fn change_stage(&mut self, event: StageEvent, change: impl FnOnce(&mut Stage)) {
        let job = self.core.jobs.get_mut(&event.job);
        if let Some(stage) = job.and_then(|job| job.stages.get_mut(usize::from(event.stage.0))) {
            change(stage);
        }
    }

    pub(super) fn tasks_added(&mut self, event: &TasksAddedEvent) {
        let Some(job) = self.core.jobs.get_mut(&event.parent.task.job) else { return };
        for spec in &event.children {
            let at = usize::from(spec.stage.0);
            if at >= job.stages.len() {
                continue;
            }
            let number = job.tasks();
            let place = job.stage_tasks(at);
            let after: BTreeSet<u32> = spec.after.iter().map(task_number).collect();
            let unmet = after.into_iter().filter(|task| job.terminal_of(*task) != Some(Terminal::Succeeded));
            let unmet: Vec<u32> = unmet.collect();
            job.children.push(Child { stage: spec.stage, place, params: spec.params.clone() });
            job.stages[at].joined.push(number);
            for task in &unmet {
                job.dependents.entry(*task).or_default().push(number);
            }
            if !unmet.is_empty() {
                job.blocked.insert(number, unmet.len() as u32);
            }
            let stage = &mut job.stages[at];
            let set = if stage.ready && unmet.is_empty() { &mut stage.placeable } else { &mut stage.waiting };
            set.insert(number);
            self.index.note_ready(job, at);
        }
        let added = (event.first, event.children.len() as u32);
        job.additions.insert((event.parent.task.index, event.request), added);
    }
}

fn task_number(task: &TaskRef) -> u32 {
    match task {
        TaskRef::Existing(number) | TaskRef::New(number) => number.index,
    }
}

fn new_stage(first: u32, spec: &StageSpec) -> Stage {
    Stage {
        first,
        joined: Vec::new(),
        sealed: !spec.open,
        ready: false,
        succeeded: false,
        waiting: IntervalSet::from_range(first, first.saturating_add(spec.tasks)),
        placeable: IntervalSet::default(),
        failed: IntervalSet::default(),
        cancelled: IntervalSet::default(),
        successes: 0,
        assigned: 0,
        running: 0,
        runs: 0,
        run_ms: 0,
        formations: 0,
        gang: None,
    }
}

/// What waits for nothing but its stage may start.
fn make_placeable(stage: &mut Stage, blocked: &BTreeMap<u32, u32>) {
    let mut free = mem::take(&mut stage.waiting);
    for number in blocked.keys() {
        if free.remove(*number) {
            stage.waiting.insert(*number);
        }
    }
    stage.placeable.union_with(free);
}

pub(super) fn note_all(index: &mut Index, job: &Job) {
    for stage in 0..job.stages.len() {
        index.note_ready(job, stage);
    }
}
