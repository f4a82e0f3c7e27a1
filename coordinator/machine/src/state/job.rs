//! A job: its stages, its tasks, and where each of them stands.

use crate::state::stage::Stage;
use crate::state::task::{EndedTask, Progress, Task, TaskHistory};
use crate::transaction::{Tx, TxCell, TxMap, TxQueue, Undo, encode_as, undo_fields};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use core::ops::{Deref, Index, IndexMut};
use muster_protocol::ids::{AttemptId, JobId, RequestId, StageIndex, TaskId};
use muster_protocol::outcome::Terminal;
use muster_protocol::spec::{JobSpec, StageSpec, Work};
use muster_protocol::time::{LogMs, WallMs};

/// Tasks that run longer on average do not queue, and nothing queues behind them.
const SHORT_MS_MAX: u64 = 1_000;

/// A job. What was submitted never changes; the rest are records of their own.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Job {
    pub id: JobId,
    pub actor: String,
    pub namespace: String,
    pub spec: JobSpec,
    pub submitted_ms: LogMs,
    pub submitted_wall_ms: WallMs,
    /// Tasks that the stages have from the start; children have numbers from here on.
    pub first_child: u32,
    pub status: TxCell<JobStatus>,
    pub stages: Stages,
    /// In the order in which they joined.
    pub children: TxQueue<Child>,
    /// Tasks that had an attempt and have not ended. Tasks without a record are only in the sets of their
    /// stage.
    pub tasks: TxMap<u32, TxCell<Task>>,
    /// Tasks that had an attempt and have ended.
    pub ended_tasks: TxMap<u32, TxCell<EndedTask>>,
    /// The newest record under each key, by task; kept over attempts, so that the next goes on from there.
    pub progress: TxMap<u32, TxMap<String, TxCell<Progress>>>,
    /// Children that wait for other tasks: for how many.
    pub blocked: TxMap<u32, TxCell<u32>>,
    /// Which children wait for a task.
    pub dependents: TxMap<u32, TxQueue<u32>>,
    /// Children that were added, by the task that asked and its request: first number and count. A repeat
    /// gets the same.
    pub additions: TxMap<(u32, RequestId), TxCell<(u32, u32)>>,
}

undo_fields!(Job {
    status, stages, children, tasks, ended_tasks, progress, blocked, dependents, additions,
} constant {
    id, actor, namespace, spec, submitted_ms, submitted_wall_ms, first_child,
});

/// The part of a job that changes with most of its events.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct JobStatus {
    pub phase: Phase,
    /// Attempts that have not ended.
    pub active: u32,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Phase {
    /// It runs, or waits to.
    Open,
    /// It was cancelled, and waits for its attempts to end.
    Cancelling {
        reason: String,
    },
    /// A task failed for good, and the job waits for its other attempts to end.
    Failing {
        reason: String,
    },
    Ended {
        terminal: Terminal,
        reason: String,
        at: LogMs,
    },
}

/// The stages of a job, in the order of its spec. There are never more or fewer.
#[derive(Clone, Debug)]
pub(crate) struct Stages {
    stages: Vec<Stage>,
    /// Those that may have changed since the last commit or rollback, so that a command costs what it
    /// touches.
    touched: BTreeSet<usize>,
}

encode_as!(Stages<>, stages: Vec<Stage>);

/// A task that a running task added.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Child {
    /// The task that added it. `None`: it is older than this field.
    pub parent: Option<u32>,
    pub stage: StageIndex,
    /// Its place among the stage's tasks.
    pub place: u32,
    pub params: String,
}

impl From<Vec<Stage>> for Stages {
    fn from(stages: Vec<Stage>) -> Self {
        Stages { stages, touched: BTreeSet::new() }
    }
}

impl Stages {
    pub fn get_mut(&mut self, at: usize) -> Option<&mut Stage> {
        let stage = self.stages.get_mut(at)?;
        self.touched.insert(at);
        Some(stage)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stage> {
        self.touched.extend(0..self.stages.len());
        self.stages.iter_mut()
    }
}

impl Deref for Stages {
    type Target = [Stage];

    fn deref(&self) -> &[Stage] {
        &self.stages
    }
}

impl IndexMut<usize> for Stages {
    fn index_mut(&mut self, at: usize) -> &mut Stage {
        self.touched.insert(at);
        &mut self.stages[at]
    }
}

impl Index<usize> for Stages {
    type Output = Stage;

    fn index(&self, at: usize) -> &Stage {
        &self.stages[at]
    }
}

impl Undo for Stages {
    fn commit(&mut self) {
        while let Some(at) = self.touched.pop_first() {
            self.stages[at].commit();
        }
    }

    fn rollback(&mut self) {
        while let Some(at) = self.touched.pop_first() {
            self.stages[at].rollback();
        }
    }
}

impl Job {
    /// How many tasks it has.
    pub fn task_count(&self) -> u32 {
        self.first_child + self.children.len() as u32
    }

    pub fn is_open(&self) -> bool {
        self.status.phase == Phase::Open
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.status.phase, Phase::Ended { .. })
    }

    /// The child of that number, if it is one.
    pub fn child(&self, number: u32) -> Option<&Child> {
        number.checked_sub(self.first_child).and_then(|at| self.children.get(at as usize))
    }

    /// What the attempts of a task left behind; `None`: it had none.
    pub fn history(&self, number: u32) -> Option<&TaskHistory> {
        match self.tasks.get(&number) {
            Some(task) => Some(&task.history),
            None => self.ended_tasks.get(&number).map(|ended| &ended.history),
        }
    }

    /// The stage of a task.
    pub fn stage_of(&self, number: u32) -> Option<StageIndex> {
        if number >= self.first_child {
            return self.child(number).map(|child| child.stage);
        }
        // Stages without tasks have the same first number as the next: the last that begins here is the one
        // with tasks.
        let after = self.stages.partition_point(|stage| stage.first <= number);
        Some(StageIndex(after.checked_sub(1)? as u16))
    }

    /// A stage's spec.
    pub fn stage_spec(&self, stage: StageIndex) -> &StageSpec {
        &self.spec.stages[usize::from(stage.0)]
    }

    /// How many tasks a stage has now.
    pub fn stage_tasks(&self, stage: usize) -> u32 {
        self.spec.stages[stage].tasks + self.stages[stage].joined.len() as u32
    }

    /// The number of the task at a place of a stage.
    pub fn number_at(&self, stage: usize, place: u32) -> Option<u32> {
        let first_tasks = self.spec.stages[stage].tasks;
        match place.checked_sub(first_tasks) {
            None => Some(self.stages[stage].first + place),
            Some(child) => self.stages[stage].joined.get(child as usize).copied(),
        }
    }

    /// The place of a task in its stage.
    pub fn place_of(&self, number: u32, stage: StageIndex) -> u32 {
        match self.child(number) {
            Some(child) => child.place,
            None => number.saturating_sub(self.stages[usize::from(stage.0)].first),
        }
    }

    /// The attempt that comes next for a task of that stage.
    pub fn next_attempt(&self, stage: StageIndex, number: u32) -> AttemptId {
        let floor = self.stages[usize::from(stage.0)].status.epoch_floor;
        let epoch = self.history(number).map_or(floor, |history| history.epoch);
        AttemptId { task: TaskId { job: self.id, index: number }, epoch: epoch.saturating_add(1) }
    }

    /// Tasks of a stage that have not succeeded.
    pub fn unfinished(&self, stage: usize) -> u32 {
        self.stage_tasks(stage) - self.stages[stage].status.successes
    }

    /// How long a task of the stage runs on average, if that is known and short.
    pub fn short_ms(&self, stage: usize) -> Option<u64> {
        if matches!(self.spec.stages[stage].work, Work::Noop(_)) {
            return Some(0);
        }
        let status = &self.stages[stage].status;
        status.run_ms.checked_div(u64::from(status.runs)).filter(|mean| *mean <= SHORT_MS_MAX)
    }

    /// Whether the scheduler may place something of a stage.
    pub fn is_runnable(&self, stage: usize) -> bool {
        let runnable = &self.stages[stage].runnable;
        let enough =
            if self.spec.stages[stage].gang { runnable.len() == self.spec.stages[stage].tasks } else { true };
        self.is_open() && !runnable.is_empty() && enough
    }

    /// How a task ended, if it has.
    pub fn terminal_of(&self, number: u32) -> Option<Terminal> {
        if let Some(ended) = self.ended_tasks.get(&number) {
            return Some(ended.terminal);
        }
        if self.tasks.contains_key(&number) {
            return None;
        }
        let stage = self.stage_of(number)?;
        self.stages[usize::from(stage.0)].cancelled.contains(number).then_some(Terminal::Cancelled)
    }

    /// What waits for nothing but its stage may start.
    pub fn make_runnable(&mut self, at: usize, tx: Tx) {
        let stage = &mut self.stages[at];
        let mut free = stage.waiting.take(tx);
        for number in self.blocked.keys() {
            if free.remove(*number) {
                stage.waiting.insert(*number, tx);
            }
        }
        stage.runnable.union_with(free, tx);
    }
}
