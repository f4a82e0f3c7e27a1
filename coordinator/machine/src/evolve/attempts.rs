//! How events about tasks and their attempts change the state.

use crate::evolve::jobs::note_all;
use crate::outcomes;
use crate::state::{Gang, Index, Job, Live, Phase, Progress, State, Step, Task, TaskState, Timer};
use alloc::collections::BTreeMap;
use muster_protocol::event::{
    AttemptEnded, AttemptStarted, AttemptStopped, GangFormed, TaskAssigned, TaskEnded, TaskRequeued,
};
use muster_protocol::ids::{AttemptId, TaskId};
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::time::LogMs;
use muster_protocol::worker::ProgressRecord;

impl State {
    pub(super) fn task_assigned(&mut self, event: &TaskAssigned) {
        let id = event.attempt.task;
        let Some(job) = self.core.jobs.get_mut(&id.job) else { return };
        let Some(stage) = job.stage_of(id.index) else { return };
        let at = usize::from(stage.0);
        let was_placeable = job.is_placeable(at);
        if !job.stages[at].placeable.remove(id.index) {
            return;
        }
        let step = if event.queued { Step::Queued } else { Step::Assigned };
        let long = !event.queued && job.short_ms(at).is_none();
        let live = Live { worker: event.worker, grant: event.grant.clone(), step, long, stopping: None };
        let task = job.records.entry(id.index).or_insert_with(|| Task {
            epoch: 0,
            retries: 0,
            state: TaskState::Idle,
            worker: event.worker,
            started_ms: None,
            outcome: None,
            progress: BTreeMap::new(),
        });
        task.epoch = event.attempt.epoch;
        task.state = TaskState::Live(live);
        task.worker = event.worker;
        task.started_ms = None;
        job.active.insert(id.index);
        job.live += 1;
        job.stages[at].assigned += 1;
        if let Some(worker) = self.core.workers.get_mut(&event.worker) {
            let request = &job.spec.stages[at].request;
            worker.held.insert(event.attempt);
            if event.queued {
                worker.queued += 1;
                worker.wanted.add(request);
            } else {
                worker.used.add(request);
                worker.gpus_used.extend(&event.grant.gpus);
                if long {
                    worker.long.add(request);
                }
            }
        }
        note(&mut self.index, job, at, was_placeable);
    }

    pub(super) fn gang_formed(&mut self, event: &GangFormed) {
        let job = self.core.jobs.get_mut(&event.job);
        let Some(stage) = job.and_then(|job| job.stages.get_mut(usize::from(event.stage.0))) else { return };
        stage.formations = event.formation;
        stage.gang =
            Some(Gang { worker: event.rendezvous_worker, port: event.rendezvous_port, broken: None });
        if let Some(worker) = self.core.workers.get_mut(&event.rendezvous_worker) {
            worker.ports_used.insert(event.rendezvous_port);
            worker.gangs_met = worker.gangs_met.wrapping_add(1);
        }
    }

    pub(super) fn attempt_started(&mut self, event: AttemptStarted) {
        let now = self.core.now.log_ms;
        let Some(job) = self.core.jobs.get_mut(&event.attempt.task.job) else { return };
        let Some(stage) = job.stage_of(event.attempt.task.index) else { return };
        let at = usize::from(stage.0);
        let Some(task) = newest(&mut job.records, event.attempt) else { return };
        let TaskState::Live(live) = &mut task.state else { return };
        let before = live.step;
        if matches!(before, Step::Running { .. }) {
            return;
        }
        let timeout_ms = job.spec.stages[at].timeout_ms;
        let deadline = (timeout_ms > 0).then(|| now.plus_ms(timeout_ms));
        live.step = Step::Running { pid: event.pid, deadline };
        if let Some(deadline) = live.timer() {
            self.index.timers.insert((deadline, Timer::Timeout(event.attempt)));
        }
        task.started_ms = Some(now);
        job.stages[at].assigned -= 1;
        job.stages[at].running += 1;
        let request = &job.spec.stages[at].request;
        if let Some(worker) = self.core.workers.get_mut(&live.worker) {
            if before == Step::Queued {
                worker.queued -= 1;
                worker.wanted.take(request);
                worker.used.add(request);
            }
            worker.running.add(request);
        }
    }

    pub(super) fn attempt_stopped(&mut self, event: &AttemptStopped) {
        let Some(job) = self.core.jobs.get_mut(&event.attempt.task.job) else { return };
        let Some(task) = newest(&mut job.records, event.attempt) else { return };
        let TaskState::Live(live) = &mut task.state else { return };
        if let Some(deadline) = live.timer() {
            self.index.timers.remove(&(deadline, Timer::Timeout(event.attempt)));
        }
        live.stopping = Some(event.outcome.clone());
    }

    pub(super) fn attempt_ended(&mut self, event: &AttemptEnded) {
        let Some(job) = self.core.jobs.get_mut(&event.attempt.task.job) else { return };
        let Some(stage) = job.stage_of(event.attempt.task.index) else { return };
        let at = usize::from(stage.0);
        let Some(task) = newest(&mut job.records, event.attempt) else { return };
        let TaskState::Live(live) = &task.state else { return };
        if let Some(deadline) = live.timer() {
            self.index.timers.remove(&(deadline, Timer::Timeout(event.attempt)));
        }
        let request = &job.spec.stages[at].request;
        if let Some(worker) = self.core.workers.get_mut(&live.worker) {
            worker.held.remove(&event.attempt);
            match live.step {
                Step::Queued => {
                    worker.queued -= 1;
                    worker.wanted.take(request);
                }
                Step::Assigned => worker.used.take(request),
                Step::Running { .. } => {
                    worker.used.take(request);
                    worker.running.take(request);
                }
            }
            if live.long {
                worker.long.take(request);
            }
            for gpu in &live.grant.gpus {
                worker.gpus_used.remove(gpu);
            }
        }
        let stage = &mut job.stages[at];
        match live.step {
            Step::Queued | Step::Assigned => stage.assigned -= 1,
            Step::Running { .. } => stage.running -= 1,
        }
        task.state = TaskState::Parted;
        task.outcome = Some(event.outcome.clone());
        job.live -= 1;
        if matches!(event.outcome, Outcome::Succeeded(_)) {
            stage.runs = stage.runs.saturating_add(1);
            stage.run_ms = stage.run_ms.saturating_add(event.run_ms);
        } else if let Some(gang) = &mut stage.gang {
            gang.broken.get_or_insert(outcomes::is_own_failure(&event.outcome));
        }
        if stage.assigned + stage.running == 0
            && let Some(gang) = stage.gang.take()
            && let Some(worker) = self.core.workers.get_mut(&gang.worker)
        {
            worker.ports_used.remove(&gang.port);
        }
    }

    pub(super) fn task_requeued(&mut self, event: TaskRequeued) {
        let now = self.core.now.log_ms;
        let id = event.task;
        let Some(job) = self.core.jobs.get_mut(&id.job) else { return };
        let Some(task) = job.records.get_mut(&id.index) else { return };
        task.retries += u32::from(event.counts);
        if event.ready_at > now {
            task.state = TaskState::Backoff { ready_at: event.ready_at };
            self.index.timers.insert((event.ready_at, Timer::Backoff(id)));
        } else {
            self.make_idle(id);
        }
    }

    pub(super) fn task_readied(&mut self, id: TaskId) {
        self.forget_backoff(id);
        self.make_idle(id);
    }

    fn forget_backoff(&mut self, id: TaskId) {
        if let Some((_, task)) = self.task(id)
            && let TaskState::Backoff { ready_at } = task.state
        {
            self.index.timers.remove(&(ready_at, Timer::Backoff(id)));
        }
    }

    fn make_idle(&mut self, id: TaskId) {
        let Some(job) = self.core.jobs.get_mut(&id.job) else { return };
        let Some(stage) = job.stage_of(id.index) else { return };
        let Some(task) = job.records.get_mut(&id.index) else { return };
        task.state = TaskState::Idle;
        let at = usize::from(stage.0);
        let was_placeable = job.is_placeable(at);
        job.stages[at].placeable.insert(id.index);
        note(&mut self.index, job, at, was_placeable);
    }

    pub(super) fn task_ended(&mut self, event: TaskEnded) {
        let at: LogMs = self.core.now.log_ms;
        let id = event.task;
        self.forget_backoff(id);
        let Some(job) = self.core.jobs.get_mut(&id.job) else { return };
        let Some(stage_index) = job.stage_of(id.index) else { return };
        let stage_at = usize::from(stage_index.0);
        let was_placeable = job.is_placeable(stage_at);
        let Some(task) = job.records.get_mut(&id.index) else { return };
        if matches!(task.state, TaskState::Live(_) | TaskState::Ended { .. }) {
            return;
        }
        let was_idle = task.state == TaskState::Idle;
        task.state = TaskState::Ended { terminal: event.terminal, at };
        job.active.remove(&id.index);
        let stage = &mut job.stages[stage_at];
        if was_idle {
            stage.placeable.remove(id.index);
            stage.waiting.remove(id.index);
        }
        match event.terminal {
            Terminal::Succeeded => {
                stage.successes += 1;
                note(&mut self.index, job, stage_at, was_placeable);
                release_dependents(&mut self.index, job, id.index);
            }
            Terminal::Cancelled => {
                stage.cancelled.insert(id.index);
                note(&mut self.index, job, stage_at, was_placeable);
            }
            Terminal::Failed => {
                stage.failed.insert(id.index);
                if job.phase == Phase::Open {
                    let reason = outcomes::failure(id, task.outcome.as_ref());
                    job.phase = Phase::Failing { reason };
                }
                note_all(&mut self.index, job);
            }
        }
    }

    pub(super) fn progress_recorded(&mut self, event: &ProgressRecord) {
        let id = event.attempt.task;
        let Some(job) = self.core.jobs.get_mut(&id.job) else { return };
        let Some(task) = job.records.get_mut(&id.index) else { return };
        let record = Progress { seq: event.seq, payload_hash: event.payload_hash, body: event.body.clone() };
        match task.progress.get_mut(&event.key) {
            Some(have) => *have = record,
            None => {
                task.progress.insert(event.key.clone(), record);
            }
        }
    }
}

fn newest(records: &mut BTreeMap<u32, Task>, attempt: AttemptId) -> Option<&mut Task> {
    records.get_mut(&attempt.task.index).filter(|task| task.epoch == attempt.epoch)
}

/// Only a change costs a look at the ready stages.
fn note(index: &mut Index, job: &Job, stage: usize, was_placeable: bool) {
    if job.is_placeable(stage) != was_placeable {
        index.note_ready(job, stage);
    }
}

/// Children that waited for a task that succeeded wait for one less.
fn release_dependents(index: &mut Index, job: &mut Job, number: u32) {
    for child in job.dependents.remove(&number).unwrap_or_default() {
        let Some(unmet) = job.blocked.get_mut(&child) else { continue };
        *unmet -= 1;
        if *unmet > 0 {
            continue;
        }
        job.blocked.remove(&child);
        let Some(stage) = job.stage_of(child) else { continue };
        let at = usize::from(stage.0);
        let was_placeable = job.is_placeable(at);
        let stage = &mut job.stages[at];
        if stage.ready && stage.waiting.remove(child) {
            stage.placeable.insert(child);
        }
        note(index, job, at, was_placeable);
    }
}
