//! The state as people and programs see it.

use crate::state::{AttemptPhase, Job, Phase, Progress, State, TaskState, Worker};
use crate::transaction::TxCell;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use muster_protocol::ids::{AttemptId, JobId, TaskId, WorkerId};
use muster_protocol::outcome::Terminal;
use muster_protocol::view::{
    JobDetail, JobView, ProgressView, StageView, TaskCounts, TaskPage, TaskView, WorkerView,
};

/// Tasks on one page at most.
const PAGE_TASKS_MAX: u32 = 10_000;

pub fn job(state: &State, id: JobId) -> Option<JobView> {
    state.job(id).map(job_view)
}

/// Jobs, the newest first: those in that state, at most `limit`.
pub fn jobs(state: &State, in_state: Option<&str>, limit: usize) -> Vec<JobView> {
    let wanted = |job: &&Job| in_state.is_none_or(|word| word == job_word(job));
    state.records.jobs.values().rev().filter(wanted).take(limit).map(job_view).collect()
}

/// A job with its stages.
pub fn detail(state: &State, id: JobId) -> Option<JobDetail> {
    let job = state.job(id)?;
    let stages = (0..job.stages.len()).map(|stage| stage_view(job, stage)).collect();
    Some(JobDetail { job: job_view(job), spec: job.spec.clone(), stages })
}

/// Tasks of a job, from that number on, at most `limit`.
pub fn tasks(state: &State, id: JobId, from: u32, limit: u32) -> Option<TaskPage> {
    let job = state.job(id)?;
    let end = job.task_count().min(from.saturating_add(limit.min(PAGE_TASKS_MAX)));
    let tasks = (from..end).filter_map(|index| task_view(state, job, index)).collect();
    Some(TaskPage { tasks, next: (end < job.task_count()).then_some(end) })
}

pub fn worker(state: &State, id: WorkerId) -> Option<WorkerView> {
    state.worker(id).map(|worker| worker_view(state, worker))
}

/// All workers, lost ones too.
pub fn workers(state: &State) -> Vec<WorkerView> {
    state.workers().map(|worker| worker_view(state, worker)).collect()
}

/// Jobs that have not ended.
pub fn open_jobs(state: &State) -> u64 {
    state.index.totals.open_jobs
}

/// Workers that are not lost.
pub fn live_workers(state: &State) -> u64 {
    state.index.totals.live_workers
}

fn job_word(job: &Job) -> &'static str {
    match &job.status.phase {
        Phase::Open if is_pending(job) => "pending",
        // A job that fails still runs until its other attempts have ended.
        Phase::Open | Phase::Failing { .. } => "running",
        Phase::Cancelling { .. } => "cancelling",
        Phase::Ended { terminal, .. } => terminal.word(),
    }
}

fn is_pending(job: &Job) -> bool {
    job.tasks.is_empty()
        && job.ended_tasks.is_empty()
        && !job.stages.iter().any(|stage| stage.status.succeeded)
}

fn job_view(job: &Job) -> JobView {
    let (terminal, reason, ended_ms) = match &job.status.phase {
        Phase::Open => (None, String::new(), None),
        Phase::Cancelling { reason } | Phase::Failing { reason } => (None, reason.clone(), None),
        Phase::Ended { terminal, reason, at } => (Some(*terminal), reason.clone(), Some(*at)),
    };
    let mut tasks = TaskCounts::default();
    for counts in (0..job.stages.len()).map(|stage| counts(job, stage)) {
        tasks.pending += counts.pending;
        tasks.assigned += counts.assigned;
        tasks.running += counts.running;
        tasks.succeeded += counts.succeeded;
        tasks.failed += counts.failed;
        tasks.cancelled += counts.cancelled;
    }
    JobView {
        id: job.id,
        name: job.spec.name.clone(),
        actor: job.actor.clone(),
        namespace: job.namespace.clone(),
        state: job_word(job).to_string(),
        terminal,
        reason,
        tasks,
        submitted_wall_ms: job.submitted_wall_ms,
        submitted_ms: job.submitted_ms,
        ended_ms,
        priority: job.spec.priority,
    }
}

fn counts(job: &Job, at: usize) -> TaskCounts {
    let stage = &job.stages[at];
    let of = |count: u32| u64::from(count);
    let status = &stage.status;
    let elsewhere = status.active() + status.successes + stage.failed.len() + stage.cancelled.len();
    TaskCounts {
        pending: of(job.stage_tasks(at) - elsewhere),
        assigned: of(status.assigned),
        running: of(status.running),
        succeeded: of(status.successes),
        failed: of(stage.failed.len()),
        cancelled: of(stage.cancelled.len()),
    }
}

fn stage_view(job: &Job, at: usize) -> StageView {
    let (stage, spec, tasks) = (&job.stages[at], &job.spec.stages[at], counts(job, at));
    let word = match () {
        () if stage.status.succeeded => "succeeded",
        () if tasks.failed > 0 => "failed",
        () if job.has_ended() => "cancelled",
        () if !stage.status.ready => "waiting",
        () if tasks.pending < u64::from(job.stage_tasks(at)) => "running",
        () => "ready",
    };
    StageView {
        name: spec.name.clone(),
        state: word.to_string(),
        needs: spec.needs.iter().map(|need| job.stage_spec(*need).name.clone()).collect(),
        sealed: stage.status.sealed,
        gang: spec.gang,
        formations: stage.status.formations,
        tasks,
    }
}

fn task_view(state: &State, job: &Job, index: u32) -> Option<TaskView> {
    let id = TaskId { job: job.id, index };
    let stage_index = job.stage_of(index)?;
    let stage = &job.stages[usize::from(stage_index.0)];
    let waits = if stage.runnable.contains(index) { "ready" } else { "waiting" };
    let mut ended_ms = None;
    let word = match (job.tasks.get(&index), job.ended_tasks.get(&index)) {
        (Some(task), _) => task_word(&task.state, waits),
        (None, Some(ended)) => {
            ended_ms = Some(ended.ended_ms);
            ended.terminal.word()
        }
        (None, None) if stage.cancelled.contains(index) => Terminal::Cancelled.word(),
        (None, None) => waits,
    };
    let history = job.history(index);
    let progress = job.progress.get(&index).into_iter().flat_map(|records| records.iter());
    let record = |(key, one): (&String, &TxCell<Progress>)| {
        (key.clone(), ProgressView { seq: one.seq, payload_hash: one.payload_hash, body: one.body.clone() })
    };
    Some(TaskView {
        id,
        stage: job.stage_spec(stage_index).name.clone(),
        state: word.to_string(),
        attempt: history.map(|history| AttemptId { task: id, epoch: history.epoch }),
        worker: history.map(|history| history.worker),
        worker_name: history
            .and_then(|history| state.worker(history.worker))
            .map(|worker| worker.hello.name.clone()),
        started_ms: history.and_then(|history| history.started_ms),
        ended_ms,
        outcome: history.and_then(|history| history.outcome.clone()),
        retries: history.map_or(0, |history| history.retries),
        progress: progress.map(record).collect(),
    })
}

fn task_word(state: &TaskState, waits: &'static str) -> &'static str {
    match state {
        TaskState::Idle => waits,
        TaskState::Backoff { .. } => "backoff",
        TaskState::AwaitingGang => "waiting",
        TaskState::Active(active) => match (&active.stopping, active.phase) {
            (Some(_), _) => "stopping",
            (None, AttemptPhase::Queued) => "queued",
            (None, AttemptPhase::Assigned) => "assigned",
            (None, AttemptPhase::Running { .. }) => "running",
        },
    }
}

fn worker_view(state: &State, worker: &Worker) -> WorkerView {
    let queued = |attempt: &AttemptId| {
        let active = state.active_attempt(*attempt);
        active.is_some_and(|(_, _, active)| active.phase == AttemptPhase::Queued)
    };
    WorkerView {
        id: worker.id,
        name: worker.hello.name.clone(),
        address: worker.hello.address.clone(),
        liveness: worker.liveness(),
        draining: worker.is_draining(),
        capacity: worker.hello.capacity.clone(),
        free: worker.free(),
        gpus: worker.hello.gpus.clone(),
        labels: worker.hello.labels.clone(),
        attempts: worker.held().filter(|attempt| !queued(attempt)).collect(),
        queued: worker.load.queued,
        version: worker.hello.version.clone(),
    }
}
