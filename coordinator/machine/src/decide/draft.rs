//! The state as it will be after the events decided so far: only what was touched, and only what decisions
//! need.
//!
//! A command may come to many events, of which the later follow from the earlier: the last rank of a gang,
//! the last task of a stage. The state itself does not change while a command is decided, so what changed is
//! kept here.

use crate::outcomes;
use crate::state::{Job, Live, Phase, State, TaskState};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use muster_protocol::event::{
    AttemptEnded, AttemptStopped, Event, JobEnded, StageEvent, TaskEnded, TaskEvent, TaskRequeued,
};
use muster_protocol::ids::{AttemptId, JobId, StageIndex, TaskId};
use muster_protocol::outcome::{Outcome, Terminal};

/// See the module.
pub(super) struct Draft<'a> {
    pub state: &'a State,
    /// What was decided so far.
    pub events: Vec<Event>,
    jobs: BTreeMap<JobId, DraftJob>,
}

/// A job that was touched.
pub(super) struct DraftJob {
    pub phase: Phase,
    pub live: u32,
    pub stages: Vec<DraftStage>,
    tasks: BTreeMap<u32, DraftTask>,
}

/// A stage of a job that was touched.
pub(super) struct DraftStage {
    pub ready: bool,
    pub sealed: bool,
    pub succeeded: bool,
    /// Tasks that have not succeeded.
    pub unfinished: u32,
    pub live: u32,
    /// A rank of its gang ended badly: whether that was its own failure.
    pub broken: Option<bool>,
}

/// A task that was touched.
#[derive(Clone, Debug)]
pub(super) enum DraftTask {
    /// It waits.
    Waiting,
    /// It has an attempt, to be ended so if at all.
    Live { stopping: Option<Outcome> },
    /// Its attempt ended.
    Parted { own_failure: bool },
    /// It ended.
    Ended,
}

impl<'a> Draft<'a> {
    pub fn new(state: &'a State) -> Self {
        Draft { state, events: Vec::new(), jobs: BTreeMap::new() }
    }

    /// A job as the state has it: what never changes of it may be read there.
    pub fn stored(&self, job: JobId) -> &'a Job {
        self.state.core.jobs.get(&job).expect("only jobs that are in the state are touched")
    }

    /// A job as it will be.
    pub fn job(&mut self, id: JobId) -> &mut DraftJob {
        let stored = self.stored(id);
        self.jobs.entry(id).or_insert_with(|| DraftJob {
            phase: stored.phase.clone(),
            live: stored.live,
            stages: (0..stored.stages.len()).map(|at| draft_stage(stored, at)).collect(),
            tasks: BTreeMap::new(),
        })
    }

    /// A stage as it will be.
    pub fn stage(&mut self, job: JobId, stage: StageIndex) -> &mut DraftStage {
        &mut self.job(job).stages[usize::from(stage.0)]
    }

    /// A task as it will be.
    pub fn task(&self, id: TaskId) -> DraftTask {
        if let Some(task) = self.jobs.get(&id.job).and_then(|job| job.tasks.get(&id.index)) {
            return task.clone();
        }
        match self.state.task(id).map(|(_, task)| (&task.state, &task.outcome)) {
            None | Some((TaskState::Idle | TaskState::Backoff { .. }, _)) => DraftTask::Waiting,
            Some((TaskState::Live(live), _)) => DraftTask::Live { stopping: live.stopping.clone() },
            Some((TaskState::Parted, outcome)) => {
                DraftTask::Parted { own_failure: outcome.as_ref().is_some_and(outcomes::is_own_failure) }
            }
            Some((TaskState::Ended { .. }, _)) => DraftTask::Ended,
        }
    }

    /// An attempt that is live, also after what was decided so far; with what it is to end as.
    pub fn live(&self, attempt: AttemptId) -> Option<(StageIndex, &'a Live, Option<Outcome>)> {
        let (_, stage, live) = self.state.live(attempt)?;
        match self.task(attempt.task) {
            DraftTask::Live { stopping } => Some((stage, live, stopping)),
            DraftTask::Waiting | DraftTask::Parted { .. } | DraftTask::Ended => None,
        }
    }

    fn set_task(&mut self, id: TaskId, task: DraftTask) {
        self.job(id.job).tasks.insert(id.index, task);
    }

    pub fn push_stopped(&mut self, attempt: AttemptId, outcome: Outcome) {
        self.set_task(attempt.task, DraftTask::Live { stopping: Some(outcome.clone()) });
        self.events.push(Event::AttemptStopped(AttemptStopped { attempt, outcome }));
    }

    pub fn push_attempt_ended(
        &mut self,
        attempt: AttemptId,
        stage: StageIndex,
        outcome: Outcome,
        run_ms: u64,
    ) {
        let own_failure = outcomes::is_own_failure(&outcome);
        let succeeded = matches!(outcome, Outcome::Succeeded(_));
        self.set_task(attempt.task, DraftTask::Parted { own_failure });
        self.job(attempt.task.job).live -= 1;
        let stage = self.stage(attempt.task.job, stage);
        stage.live -= 1;
        if !succeeded {
            stage.broken.get_or_insert(own_failure);
        }
        self.events.push(Event::AttemptEnded(AttemptEnded { attempt, outcome, run_ms }));
    }

    pub fn push_requeued(&mut self, event: TaskRequeued) {
        self.set_task(event.task, DraftTask::Waiting);
        self.events.push(Event::TaskRequeued(event));
    }

    pub fn push_readied(&mut self, task: TaskId) {
        self.events.push(Event::TaskReadied(TaskEvent { task }));
    }

    pub fn push_task_ended(&mut self, task: TaskId, stage: StageIndex, terminal: Terminal) {
        self.set_task(task, DraftTask::Ended);
        if terminal == Terminal::Succeeded {
            self.stage(task.job, stage).unfinished -= 1;
        }
        self.events.push(Event::TaskEnded(TaskEnded { task, terminal }));
    }

    pub fn push_stage_readied(&mut self, job: JobId, stage: StageIndex) {
        self.stage(job, stage).ready = true;
        self.events.push(Event::StageReadied(StageEvent { job, stage }));
    }

    pub fn push_stage_sealed(&mut self, job: JobId, stage: StageIndex) {
        self.stage(job, stage).sealed = true;
        self.events.push(Event::StageSealed(StageEvent { job, stage }));
    }

    pub fn push_stage_succeeded(&mut self, job: JobId, stage: StageIndex) {
        self.stage(job, stage).succeeded = true;
        self.events.push(Event::StageSucceeded(StageEvent { job, stage }));
    }

    pub fn push_job_ended(&mut self, job: JobId, terminal: Terminal, reason: alloc::string::String) {
        let at = self.state.now().log_ms;
        self.job(job).phase = Phase::Ended { terminal, reason: reason.clone(), at };
        self.events.push(Event::JobEnded(JobEnded { job, terminal, reason }));
    }
}

fn draft_stage(job: &Job, at: usize) -> DraftStage {
    let stage = &job.stages[at];
    DraftStage {
        ready: stage.ready,
        sealed: stage.sealed,
        succeeded: stage.succeeded,
        unfinished: job.unfinished(at),
        live: stage.assigned + stage.running,
        broken: stage.gang.and_then(|gang| gang.broken),
    }
}
