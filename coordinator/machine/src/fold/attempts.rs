//! How events about tasks and their attempts change the state.

use crate::outcomes;
use crate::state::{
    ActiveAttempt, AttemptPhase, EndedTask, Gang, Indexes, Job, Phase, Progress, State, Task, TaskHistory,
    TaskState, Timer,
};
use crate::transaction::{Tx, TxCell, TxMap};
use alloc::vec::Vec;
use muster_protocol::event::{
    AttemptEnded, AttemptStarted, AttemptStopped, GangFormed, TaskAssigned, TaskEnded, TaskRequeued,
};
use muster_protocol::ids::{AttemptId, TaskId};
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::worker::ProgressRecord;

impl State {
    pub(super) fn task_assigned(&mut self, event: &TaskAssigned) {
        let (id, tx) = (event.attempt.task, self.tx);
        let Some(job) = self.records.jobs.edit(&id.job, tx) else { return };
        let Some(stage) = job.stage_of(id.index) else { return };
        let at = usize::from(stage.0);
        let was_runnable = job.is_runnable(at);
        if !job.stages[at].runnable.remove(id.index, tx) {
            return;
        }
        let phase = if event.queued { AttemptPhase::Queued } else { AttemptPhase::Assigned };
        let long_running = !event.queued && job.short_ms(at).is_none();
        let (worker, grant) = (event.worker, event.grant.clone());
        let state = TaskState::Active(ActiveAttempt { worker, grant, phase, long_running, stopping: None });
        let epoch = event.attempt.epoch;
        match job.tasks.edit(&id.index, tx) {
            Some(task) => {
                let task = task.edit(tx);
                task.history.epoch = epoch;
                task.history.worker = worker;
                task.history.started_ms = None;
                task.state = state;
            }
            None => {
                let history = TaskHistory { epoch, retries: 0, worker, started_ms: None, outcome: None };
                job.tasks.insert(id.index, Task { history, state }.into(), tx);
            }
        }
        job.status.edit(tx).active += 1;
        job.stages[at].status.edit(tx).assigned += 1;
        if let Some(worker) = self.records.workers.edit(&worker, tx) {
            let request = &job.spec.stages[at].request;
            worker.held.insert(event.attempt, (), tx);
            let load = worker.load.edit(tx);
            match phase {
                AttemptPhase::Queued => load.queue(request),
                AttemptPhase::Assigned | AttemptPhase::Running { .. } => {
                    load.hold(request, &event.grant, long_running)
                }
            }
        }
        note(&mut self.index, job, at, was_runnable, tx);
    }

    pub(super) fn gang_formed(&mut self, event: &GangFormed) {
        let tx = self.tx;
        let job = self.records.jobs.edit(&event.job, tx);
        let Some(stage) = job.and_then(|job| job.stages.get_mut(usize::from(event.stage.0))) else { return };
        let status = stage.status.edit(tx);
        status.formations = event.formation;
        status.gang =
            Some(Gang { worker: event.rendezvous_worker, port: event.rendezvous_port, broken: None });
        if let Some(worker) = self.records.workers.edit(&event.rendezvous_worker, tx) {
            worker.load.edit(tx).take_port(event.rendezvous_port);
        }
    }

    pub(super) fn attempt_started(&mut self, event: AttemptStarted) {
        let (now, tx) = (self.records.now.log_ms, self.tx);
        let Some(job) = self.records.jobs.edit(&event.attempt.task.job, tx) else { return };
        let Some(stage) = job.stage_of(event.attempt.task.index) else { return };
        let at = usize::from(stage.0);
        let timeout_ms = job.spec.stages[at].timeout_ms;
        let Some(task) = newest(&mut job.tasks, event.attempt, tx) else { return };
        let TaskState::Active(active) = &mut task.state else { return };
        let before = active.phase;
        if matches!(before, AttemptPhase::Running { .. }) {
            return;
        }
        let deadline = (timeout_ms > 0).then(|| now.plus_ms(timeout_ms));
        active.phase = AttemptPhase::Running { pid: event.pid, deadline };
        if let Some(deadline) = active.timer() {
            self.index.timers.insert((deadline, Timer::Timeout(event.attempt)), (), tx);
        }
        task.history.started_ms = Some(now);
        if let Some(worker) = self.records.workers.edit(&active.worker, tx) {
            worker.load.edit(tx).start(&job.spec.stages[at].request, before);
        }
        let status = job.stages[at].status.edit(tx);
        status.assigned -= 1;
        status.running += 1;
    }

    pub(super) fn attempt_stopped(&mut self, event: &AttemptStopped) {
        let tx = self.tx;
        let Some(job) = self.records.jobs.edit(&event.attempt.task.job, tx) else { return };
        let Some(task) = newest(&mut job.tasks, event.attempt, tx) else { return };
        let TaskState::Active(active) = &mut task.state else { return };
        if let Some(deadline) = active.timer() {
            self.index.timers.remove(&(deadline, Timer::Timeout(event.attempt)), tx);
        }
        active.stopping = Some(event.outcome.clone());
    }

    pub(super) fn attempt_ended(&mut self, event: &AttemptEnded) {
        let tx = self.tx;
        let Some(job) = self.records.jobs.edit(&event.attempt.task.job, tx) else { return };
        let Some(stage) = job.stage_of(event.attempt.task.index) else { return };
        let at = usize::from(stage.0);
        let Some(task) = newest(&mut job.tasks, event.attempt, tx) else { return };
        let TaskState::Active(active) = &task.state else { return };
        if let Some(deadline) = active.timer() {
            self.index.timers.remove(&(deadline, Timer::Timeout(event.attempt)), tx);
        }
        if let Some(worker) = self.records.workers.edit(&active.worker, tx) {
            worker.held.remove(&event.attempt, tx);
            worker.load.edit(tx).release(&job.spec.stages[at].request, active);
        }
        let status = job.stages[at].status.edit(tx);
        match active.phase {
            AttemptPhase::Queued | AttemptPhase::Assigned => status.assigned -= 1,
            AttemptPhase::Running { .. } => status.running -= 1,
        }
        task.state = TaskState::AwaitingGang;
        task.history.outcome = Some(event.outcome.clone());
        job.status.edit(tx).active -= 1;
        if matches!(event.outcome, Outcome::Succeeded(_)) {
            status.runs = status.runs.saturating_add(1);
            status.run_ms = status.run_ms.saturating_add(event.run_ms);
        }
        if let Some(gang) = &mut status.gang {
            gang.broken = Gang::broken_after(gang.broken, &event.outcome);
        }
        if status.active() == 0
            && let Some(gang) = status.gang.take()
            && let Some(worker) = self.records.workers.edit(&gang.worker, tx)
        {
            worker.load.edit(tx).ports_used.remove(&gang.port);
        }
    }

    pub(super) fn task_requeued(&mut self, event: TaskRequeued) {
        let (id, now, tx) = (event.task, self.records.now.log_ms, self.tx);
        let Some(job) = self.records.jobs.edit(&id.job, tx) else { return };
        let Some(task) = job.tasks.edit(&id.index, tx) else { return };
        let task = task.edit(tx);
        task.history.retries += u32::from(event.counts);
        if event.ready_at > now {
            task.state = TaskState::Backoff { ready_at: event.ready_at };
            self.index.timers.insert((event.ready_at, Timer::Backoff(id)), (), tx);
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
            self.index.timers.remove(&(ready_at, Timer::Backoff(id)), self.tx);
        }
    }

    fn make_idle(&mut self, id: TaskId) {
        let tx = self.tx;
        let Some(job) = self.records.jobs.edit(&id.job, tx) else { return };
        let Some(stage) = job.stage_of(id.index) else { return };
        let Some(task) = job.tasks.edit(&id.index, tx) else { return };
        task.edit(tx).state = TaskState::Idle;
        let at = usize::from(stage.0);
        let was_runnable = job.is_runnable(at);
        job.stages[at].runnable.insert(id.index, tx);
        note(&mut self.index, job, at, was_runnable, tx);
    }

    pub(super) fn task_ended(&mut self, event: TaskEnded) {
        let (id, tx) = (event.task, self.tx);
        let ended_ms = self.records.now.log_ms;
        self.forget_backoff(id);
        let Some(job) = self.records.jobs.edit(&id.job, tx) else { return };
        let Some(stage_index) = job.stage_of(id.index) else { return };
        let at = usize::from(stage_index.0);
        let was_runnable = job.is_runnable(at);
        let Some(task) = job.tasks.get(&id.index) else { return };
        if matches!(task.state, TaskState::Active(_)) {
            return;
        }
        let was_idle = task.state == TaskState::Idle;
        let history = task.history.clone();
        let reason = match event.terminal {
            Terminal::Failed if job.is_open() => Some(outcomes::failure(id, history.outcome.as_ref())),
            Terminal::Failed | Terminal::Succeeded | Terminal::Cancelled => None,
        };
        job.tasks.remove(&id.index, tx);
        let ended = EndedTask { history, terminal: event.terminal, ended_ms };
        job.ended_tasks.insert(id.index, ended.into(), tx);
        let stage = &mut job.stages[at];
        if was_idle {
            stage.runnable.remove(id.index, tx);
            stage.waiting.remove(id.index, tx);
        }
        match event.terminal {
            Terminal::Succeeded => {
                stage.status.edit(tx).successes += 1;
                note(&mut self.index, job, at, was_runnable, tx);
                release_dependents(&mut self.index, job, id.index, tx);
            }
            Terminal::Cancelled => {
                stage.cancelled.insert(id.index, tx);
                note(&mut self.index, job, at, was_runnable, tx);
            }
            Terminal::Failed => {
                stage.failed.insert(id.index, tx);
                if let Some(reason) = reason {
                    job.status.edit(tx).phase = Phase::Failing { reason };
                }
                self.index.note_job(job, tx);
            }
        }
    }

    pub(super) fn progress_recorded(&mut self, event: &ProgressRecord) {
        let (id, tx) = (event.attempt.task, self.tx);
        let Some(job) = self.records.jobs.edit(&id.job, tx) else { return };
        if job.history(id.index).is_none() {
            return;
        }
        let record = Progress { seq: event.seq, payload_hash: event.payload_hash, body: event.body.clone() };
        if !job.progress.contains_key(&id.index) {
            job.progress.insert(id.index, TxMap::default(), tx);
        }
        let Some(progress) = job.progress.edit(&id.index, tx) else { return };
        match progress.edit(&event.key, tx) {
            Some(before) => *before.edit(tx) = record,
            None => progress.insert(event.key.clone(), record.into(), tx),
        }
    }
}

fn newest(tasks: &mut TxMap<u32, TxCell<Task>>, attempt: AttemptId, tx: Tx) -> Option<&mut Task> {
    let task = tasks.edit(&attempt.task.index, tx).filter(|task| task.history.epoch == attempt.epoch)?;
    Some(task.edit(tx))
}

/// Only a change costs a look at the ready stages.
fn note(index: &mut Indexes, job: &Job, stage: usize, was_runnable: bool, tx: Tx) {
    if job.is_runnable(stage) != was_runnable {
        index.note_ready(job, stage, tx);
    }
}

/// Children that waited for a task that succeeded wait for one less.
fn release_dependents(index: &mut Indexes, job: &mut Job, number: u32, tx: Tx) {
    let Some(dependents) = job.dependents.get(&number) else { return };
    let dependents: Vec<u32> = dependents.iter().copied().collect();
    job.dependents.remove(&number, tx);
    for child in dependents {
        let Some(unmet) = job.blocked.edit(&child, tx) else { continue };
        let unmet = unmet.edit(tx);
        *unmet -= 1;
        if *unmet > 0 {
            continue;
        }
        job.blocked.remove(&child, tx);
        let Some(stage) = job.stage_of(child) else { continue };
        let at = usize::from(stage.0);
        let was_runnable = job.is_runnable(at);
        let stage = &mut job.stages[at];
        if stage.status.ready && stage.waiting.remove(child, tx) {
            stage.runnable.insert(child, tx);
        }
        note(index, job, at, was_runnable, tx);
    }
}
