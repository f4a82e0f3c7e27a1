//! The state as people and programs see it.

use crate::state::{Job, Phase, State, Step, TaskState, Worker};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use muster_protocol::ids::{AttemptId, JobId, TaskId, WorkerId};
use muster_protocol::outcome::Terminal;
use muster_protocol::view::{
    JobDetail, JobView, ProgressView, StageView, TaskCounts, TaskPage, TaskView, WorkerView,
};

/// Tasks on one page at most.
const PAGE_TASKS_MAX: u32 = 10_000;

/// A job.
pub fn job(state: &State, id: JobId) -> Option<JobView> {
    state.core.jobs.get(&id).map(job_view)
}

/// Jobs, the newest first: those in that state, at most `limit`.
pub fn jobs(state: &State, in_state: Option<&str>, limit: usize) -> Vec<JobView> {
    let wanted = |job: &&Job| in_state.is_none_or(|word| word == job_word(job));
    state.core.jobs.values().rev().filter(wanted).take(limit).map(job_view).collect()
}

/// A job with its stages.
pub fn detail(state: &State, id: JobId) -> Option<JobDetail> {
    let job = state.core.jobs.get(&id)?;
    let stages = (0..job.stages.len()).map(|stage| stage_view(job, stage)).collect();
    Some(JobDetail { job: job_view(job), spec: job.spec.clone(), stages })
}

/// Tasks of a job, from that number on, at most `limit`.
pub fn tasks(state: &State, id: JobId, from: u32, limit: u32) -> Option<TaskPage> {
    let job = state.core.jobs.get(&id)?;
    let end = job.tasks().min(from.saturating_add(limit.min(PAGE_TASKS_MAX)));
    let tasks = (from..end).filter_map(|index| task_view(state, job, index)).collect();
    Some(TaskPage { tasks, next: (end < job.tasks()).then_some(end) })
}

/// A worker.
pub fn worker(state: &State, id: WorkerId) -> Option<WorkerView> {
    state.worker(id).map(|worker| worker_view(state, worker))
}

/// All workers, lost ones too.
pub fn workers(state: &State) -> Vec<WorkerView> {
    state.workers().map(|worker| worker_view(state, worker)).collect()
}

/// Jobs that have not ended.
pub fn open_jobs(state: &State) -> u64 {
    state.index.open_jobs
}

/// Workers that are not lost.
pub fn live_workers(state: &State) -> u64 {
    state.index.live_workers
}

fn job_word(job: &Job) -> &'static str {
    match &job.phase {
        Phase::Open if job.records.is_empty() && !job.stages.iter().any(|stage| stage.succeeded) => "pending",
        // A job that fails still runs until its other attempts have ended.
        Phase::Open | Phase::Failing { .. } => "running",
        Phase::Cancelling { .. } => "cancelling",
        Phase::Ended { terminal, .. } => terminal.word(),
    }
}

fn job_view(job: &Job) -> JobView {
    let (terminal, reason, ended_ms) = match &job.phase {
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
    let elsewhere =
        stage.assigned + stage.running + stage.successes + stage.failed.len() + stage.cancelled.len();
    TaskCounts {
        pending: of(job.stage_tasks(at) - elsewhere),
        assigned: of(stage.assigned),
        running: of(stage.running),
        succeeded: of(stage.successes),
        failed: of(stage.failed.len()),
        cancelled: of(stage.cancelled.len()),
    }
}

fn stage_view(job: &Job, at: usize) -> StageView {
    let (stage, spec, tasks) = (&job.stages[at], &job.spec.stages[at], counts(job, at));
    let word = match () {
        () if stage.succeeded => "succeeded",
        () if tasks.failed > 0 => "failed",
        () if job.has_ended() => "cancelled",
        () if !stage.ready => "waiting",
        () if tasks.pending < u64::from(job.stage_tasks(at)) => "running",
        () => "ready",
    };
    StageView {
        name: spec.name.clone(),
        state: word.to_string(),
        needs: spec.needs.iter().map(|need| job.stage_spec(*need).name.clone()).collect(),
        sealed: stage.sealed,
        gang: spec.gang,
        formations: stage.formations,
        tasks,
    }
}

fn task_view(state: &State, job: &Job, index: u32) -> Option<TaskView> {
    let id = TaskId { job: job.id, index };
    let stage_index = job.stage_of(index)?;
    let stage = &job.stages[usize::from(stage_index.0)];
    let waits = if stage.placeable.contains(index) { "ready" } else { "waiting" };
    let mut view = TaskView {
        id,
        stage: job.stage_spec(stage_index).name.clone(),
        state: if stage.cancelled.contains(index) { Terminal::Cancelled.word() } else { waits }.to_string(),
        attempt: None,
        worker: None,
        worker_name: None,
        started_ms: None,
        ended_ms: None,
        outcome: None,
        retries: 0,
        progress: Default::default(),
    };
    let Some(task) = job.records.get(&index) else { return Some(view) };
    let word = match &task.state {
        TaskState::Idle => waits,
        TaskState::Backoff { .. } => "backoff",
        // It waits for its gang.
        TaskState::Parted => "waiting",
        TaskState::Ended { terminal, at } => {
            view.ended_ms = Some(*at);
            terminal.word()
        }
        TaskState::Live(live) => match (&live.stopping, live.step) {
            (Some(_), _) => "stopping",
            (None, Step::Queued) => "queued",
            (None, Step::Assigned) => "assigned",
            (None, Step::Running { .. }) => "running",
        },
    };
    let one = |(key, one): (&String, &crate::state::Progress)| {
        (key.clone(), ProgressView { seq: one.seq, payload_hash: one.payload_hash, body: one.body.clone() })
    };
    view.state = word.to_string();
    view.attempt = Some(AttemptId { task: id, epoch: task.epoch });
    view.worker = Some(task.worker);
    view.worker_name = state.worker(task.worker).map(|worker| worker.hello.name.clone());
    view.started_ms = task.started_ms;
    view.outcome = task.outcome.clone();
    view.retries = task.retries;
    view.progress = task.progress.iter().map(one).collect();
    Some(view)
}

fn worker_view(state: &State, worker: &Worker) -> WorkerView {
    let queued =
        |attempt: &AttemptId| state.live(*attempt).is_some_and(|(_, _, live)| live.step == Step::Queued);
    WorkerView {
        id: worker.id,
        name: worker.hello.name.clone(),
        address: worker.hello.address.clone(),
        liveness: worker.liveness,
        draining: worker.draining,
        capacity: worker.hello.capacity.clone(),
        free: worker.free(),
        gpus: worker.hello.gpus.clone(),
        labels: worker.hello.labels.clone(),
        attempts: worker.held.iter().copied().filter(|attempt| !queued(attempt)).collect(),
        queued: worker.queued,
        version: worker.hello.version.clone(),
    }
}
