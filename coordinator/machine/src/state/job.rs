//! A job: its stages, its tasks, and where each of them stands.

use crate::state::{Task, TaskState};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use muster_protocol::ids::{JobId, RequestId, StageIndex, WorkerId};
use muster_protocol::interval_set::IntervalSet;
use muster_protocol::outcome::Terminal;
use muster_protocol::spec::{JobSpec, StageSpec, Work};
use muster_protocol::time::{LogMs, WallMs};

/// Tasks that run longer on average do not queue, and nothing queues behind them.
const SHORT_MS_MAX: u64 = 1_000;

/// A job.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Job {
    pub id: JobId,
    pub actor: String,
    pub namespace: String,
    pub spec: JobSpec,
    pub submitted_ms: LogMs,
    pub submitted_wall_ms: WallMs,
    pub phase: Phase,
    pub stages: Vec<Stage>,
    /// Tasks that the stages have from the start; children have numbers from here on.
    pub base: u32,
    /// In the order in which they joined.
    pub children: Vec<Child>,
    /// Tasks that had an attempt, ever. Others are only in the sets of their stage.
    pub records: BTreeMap<u32, Task>,
    /// Tasks with a record that have not ended.
    pub active: BTreeSet<u32>,
    /// Attempts that have not ended.
    pub live: u32,
    /// Children that wait for other tasks: for how many.
    pub blocked: BTreeMap<u32, u32>,
    /// Which children wait for a task.
    pub dependents: BTreeMap<u32, Vec<u32>>,
    /// Children that were added, by the task that asked and its request: first number and count. A repeat
    /// gets the same.
    pub additions: BTreeMap<(u32, RequestId), (u32, u32)>,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Phase {
    /// It runs, or waits to.
    Open,
    /// It was cancelled, and waits for its attempts to end.
    Cancelling { reason: String },
    /// A task failed for good, and it waits for its other attempts to end.
    Failing { reason: String },
    /// It ended.
    Ended { terminal: Terminal, reason: String, at: LogMs },
}

/// A stage. Its task numbers are `first ..`, as many as its spec says, and those of its children.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Stage {
    pub first: u32,
    /// Numbers of the children that joined, in order: their places follow those of the first tasks.
    pub joined: Vec<u32>,
    pub sealed: bool,
    /// What it needs has succeeded.
    pub ready: bool,
    pub succeeded: bool,
    /// Tasks that may not start yet: the stage waits, or they wait for others.
    pub waiting: IntervalSet<u32>,
    /// Tasks that may start.
    pub placeable: IntervalSet<u32>,
    pub failed: IntervalSet<u32>,
    pub cancelled: IntervalSet<u32>,
    pub successes: u32,
    /// Live attempts that have not started.
    pub assigned: u32,
    /// Live attempts that have.
    pub running: u32,
    /// Attempts that said how long they ran, and how long that was together: short ones are worth a queue.
    pub runs: u32,
    pub run_ms: u64,
    pub formations: u32,
    /// The gang that is formed, until its last rank has ended.
    pub gang: Option<Gang>,
}

/// One life of a gang.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Gang {
    pub worker: WorkerId,
    pub port: u16,
    /// A rank ended badly: whether that was its own failure.
    pub broken: Option<bool>,
}

/// A task that a running task added.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Child {
    pub stage: StageIndex,
    /// Its place among the stage's tasks.
    pub place: u32,
    pub params: String,
}

impl Job {
    /// How many tasks it has.
    pub fn tasks(&self) -> u32 {
        self.base + self.children.len() as u32
    }

    /// Whether it ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// The child of that number, if it is one.
    pub fn child(&self, number: u32) -> Option<&Child> {
        number.checked_sub(self.base).and_then(|at| self.children.get(at as usize))
    }

    /// The stage of a task.
    pub fn stage_of(&self, number: u32) -> Option<StageIndex> {
        if number >= self.base {
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

    /// Tasks of a stage that have not succeeded.
    pub fn unfinished(&self, stage: usize) -> u32 {
        self.stage_tasks(stage) - self.stages[stage].successes
    }

    /// How long a task of the stage runs on average, if that is known and short.
    pub fn short_ms(&self, stage: usize) -> Option<u64> {
        if matches!(self.spec.stages[stage].work, Work::Noop(_)) {
            return Some(0);
        }
        let stage = &self.stages[stage];
        stage.run_ms.checked_div(u64::from(stage.runs)).filter(|mean| *mean <= SHORT_MS_MAX)
    }

    /// Whether the scheduler may place something of a stage.
    pub fn is_placeable(&self, stage: usize) -> bool {
        let placeable = &self.stages[stage].placeable;
        let enough = if self.spec.stages[stage].gang {
            placeable.len() == self.spec.stages[stage].tasks
        } else {
            true
        };
        self.phase == Phase::Open && !placeable.is_empty() && enough
    }

    /// How a task ended, if it has.
    pub fn terminal_of(&self, number: u32) -> Option<Terminal> {
        match self.records.get(&number).map(|task| &task.state) {
            Some(TaskState::Ended { terminal, .. }) => Some(*terminal),
            Some(TaskState::Idle | TaskState::Backoff { .. } | TaskState::Live(_) | TaskState::Parted) => {
                None
            }
            None => {
                let stage = self.stage_of(number)?;
                self.stages[usize::from(stage.0)].cancelled.contains(number).then_some(Terminal::Cancelled)
            }
        }
    }
}
