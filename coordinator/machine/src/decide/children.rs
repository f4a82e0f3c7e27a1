//! Running tasks add tasks to their job, and seal stages.

use super::decider::Decider;
use super::rejections::{invalid, over_limit, stale, wrong_state};
use super::spec::check_params;
use crate::state::{Job, Phase};
use alloc::format;
use alloc::vec::Vec;
use muster_protocol::command::{AddTasks, SealStage};
use muster_protocol::envelope::{Reply, TasksAdded};
use muster_protocol::event::{Event, TasksAddedEvent};
use muster_protocol::ids::{AttemptId, RequestId};
use muster_protocol::limits;
use muster_protocol::rejection::Rejection;
use muster_protocol::spec::{ChildSpec, TaskNumber, TaskRef};

/// Tasks that one child may wait for at most.
const AFTER_MAX: usize = 1024;

impl Decider<'_> {
    pub fn add_tasks(&mut self, request: RequestId, add: &AddTasks) -> Result<Reply, Rejection> {
        let job = self.parent_job(add.parent)?;
        // The job remembers its additions for longer than requests are remembered.
        if !request.is_nil()
            && let Some(added) = job.additions.get(&(add.parent.task.index, request))
        {
            let (first, count) = **added;
            return Ok(Reply::TasksAdded(TasksAdded { first, count }));
        }
        let first = job.task_count();
        let count = add.children.len();
        if count > limits::CHILDREN_PER_COMMAND_MAX {
            return Err(over_limit(format!(
                "{count} children at once; at most {}",
                limits::CHILDREN_PER_COMMAND_MAX
            )));
        }
        if first as usize + count > limits::TASKS_PER_JOB_MAX as usize {
            return Err(over_limit(format!("a job has at most {} tasks", limits::TASKS_PER_JOB_MAX)));
        }
        let mut children = Vec::with_capacity(count);
        for (at, child) in add.children.iter().enumerate() {
            children.push(checked_child(job, first, at, child, &add.children)?);
        }
        self.push(Event::TasksAdded(TasksAddedEvent { parent: add.parent, request, first, children }));
        Ok(Reply::TasksAdded(TasksAdded { first, count: count as u32 }))
    }

    pub fn seal_stage(&mut self, seal: &SealStage) -> Result<(), Rejection> {
        let job = self.parent_job(seal.parent)?;
        let Some(stage) = job.stages.get(usize::from(seal.stage.0)) else {
            return Err(invalid("stage", format!("the job has {} stages", job.stages.len())));
        };
        if !stage.status.sealed {
            let id = job.id;
            self.push_stage_sealed(id, seal.stage);
            self.settle_stage(id, seal.stage);
        }
        Ok(())
    }

    /// The job of an active attempt. Nothing joins a job that is being ended.
    fn parent_job(&self, parent: AttemptId) -> Result<&Job, Rejection> {
        let Some((job, _, _)) = self.state.active_attempt(parent) else {
            return Err(stale(format!("{parent} does not run, or not any more")));
        };
        match job.status.phase {
            Phase::Open => Ok(job),
            Phase::Cancelling { .. } | Phase::Failing { .. } | Phase::Ended { .. } => {
                Err(wrong_state(format!("{} is being ended", job.id)))
            }
        }
    }
}

/// A child with every reference made one to a task of the job.
fn checked_child(
    job: &Job,
    first: u32,
    at: usize,
    child: &ChildSpec,
    all: &[ChildSpec],
) -> Result<ChildSpec, Rejection> {
    let path = |field: &str| format!("children[{at}].{field}");
    let Some(stage) = job.stages.get(usize::from(child.stage.0)) else {
        return Err(invalid(path("stage"), format!("the job has {} stages", job.stages.len())));
    };
    let name = &job.stage_spec(child.stage).name;
    if !job.stage_spec(child.stage).open {
        return Err(invalid(path("stage"), format!("`{name}` is not open")));
    }
    if stage.status.sealed {
        return Err(wrong_state(format!("`{name}` is sealed: no more tasks join it")));
    }
    check_params(&child.params).map_err(|message| invalid(path("params"), message))?;
    if child.after.len() > AFTER_MAX {
        return Err(invalid(path("after"), format!("{} tasks; at most {AFTER_MAX}", child.after.len())));
    }
    let mut after = Vec::with_capacity(child.after.len());
    for task in &child.after {
        let (index, its_stage) = match task {
            TaskRef::Existing(number) => match job.stage_of(number.index) {
                Some(stage) => (number.index, stage),
                None => {
                    return Err(invalid(
                        path("after"),
                        format!("{}.{} does not exist", job.id, number.index),
                    ));
                }
            },
            TaskRef::New(place) if (place.index as usize) < at => {
                (first + place.index, all[place.index as usize].stage)
            }
            TaskRef::New(place) => {
                return Err(invalid(
                    path("after"),
                    format!("child {} does not stand before it", place.index),
                ));
            }
        };
        // As with the needs of stages: tasks wait only for tasks of their own or earlier stages, so never in
        // a circle.
        if its_stage > child.stage {
            return Err(invalid(
                path("after"),
                format!("{}.{index} is in a later stage than `{name}`", job.id),
            ));
        }
        after.push(TaskRef::Existing(TaskNumber { index }));
    }
    Ok(ChildSpec { stage: child.stage, params: child.params.clone(), after })
}
