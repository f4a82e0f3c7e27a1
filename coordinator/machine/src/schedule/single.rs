//! Places the tasks of a stage that need nobody else: now where there is room, else, if they are short, in
//! queues.

use super::{ASSIGNMENTS_MAX, Table};
use crate::room::Room;
use crate::state::{Job, ReadyKey};
use alloc::collections::BTreeSet;
use muster_protocol::command::Assignment;
use muster_protocol::ids::{AttemptId, TaskId};
use muster_protocol::resources::{Grant, Resources};

/// A queue holds at most about this much work for each slot.
const QUEUE_MS_MAX: u64 = 1_000;

impl Table<'_> {
    /// Whether all of the stage's ready tasks found a place, so that another stage of the class may, too.
    pub fn place_singles(&mut self, (_, id, stage): ReadyKey, request: &Resources) -> bool {
        let Some(job) = self.state.core.jobs.get(&id) else { return true };
        let short_ms = job.short_ms(usize::from(stage.0));
        let mut tasks = job.stages[usize::from(stage.0)].placeable.iter().peekable();
        // The least loaded worker first, again and again: equal tasks are spread.
        let mut open: BTreeSet<(u64, u32, usize)> = self
            .rooms
            .iter()
            .enumerate()
            .filter(|(_, room)| room.is_open(request))
            .map(|(at, room)| rank(room, at))
            .collect();
        while tasks.peek().is_some() && self.assignments.len() < ASSIGNMENTS_MAX {
            let Some((_, _, at)) = open.pop_first() else { break };
            let Some(index) = tasks.next() else { break };
            let room = &mut self.rooms[at];
            let grant = room.grant(request);
            room.hold(request, &grant, short_ms.is_none());
            if room.is_open(request) {
                open.insert(rank(room, at));
            }
            self.assignments.push(assignment(job, index, room, grant, false));
        }
        let Some(mean_ms) = short_ms.filter(|_| tasks.peek().is_some()) else {
            return tasks.peek().is_none();
        };
        let mut queues: BTreeSet<(u32, usize)> = BTreeSet::new();
        for (at, room) in
            self.rooms.iter().enumerate().filter(|(_, room)| queues_more(room, request, mean_ms))
        {
            queues.insert((room.queued, at));
        }
        while tasks.peek().is_some() && self.assignments.len() < ASSIGNMENTS_MAX {
            let Some((_, at)) = queues.pop_first() else { break };
            let Some(index) = tasks.next() else { break };
            let room = &mut self.rooms[at];
            room.queue(request);
            if queues_more(room, request, mean_ms) {
                queues.insert((room.queued, at));
            }
            self.assignments.push(assignment(job, index, room, Grant::default(), true));
        }
        tasks.peek().is_none()
    }
}

fn rank(room: &Room<'_>, at: usize) -> (u64, u32, usize) {
    (room.load(), room.holding, at)
}

fn assignment(job: &Job, index: u32, room: &Room<'_>, grant: Grant, queued: bool) -> Assignment {
    Assignment { attempt: next_attempt(job, index), worker: room.worker.id, grant, queued }
}

/// The attempt that a task waits for.
pub(super) fn next_attempt(job: &Job, index: u32) -> AttemptId {
    let epoch = job.records.get(&index).map_or(0, |task| task.epoch) + 1;
    AttemptId { task: TaskId { job: job.id, index }, epoch }
}

/// Whether one more task is worth its place in the queue: not more than what the worker gets done in a
/// moment.
fn queues_more(room: &Room<'_>, request: &Resources, mean_ms: u64) -> bool {
    let enough = room.slots(request).saturating_mul((QUEUE_MS_MAX / (mean_ms + 1)).max(1));
    room.may_queue(request) && u64::from(room.queued) < enough
}
