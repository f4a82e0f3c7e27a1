//! Places the tasks of a stage that are independent of each other: now where there is room, else, if they are
//! short, in queues.

use super::capacity::CapacityView;
use super::plan::Plan;
use crate::state::ReadyKey;
use alloc::collections::BTreeSet;
use muster_protocol::resources::{Grant, Resources};

/// A queue holds at most about this much work for each slot.
const QUEUE_MS_MAX: u64 = 1_000;

impl Plan<'_> {
    /// Whether all of the stage's ready tasks found a place, so that another stage of the class may, too.
    pub fn place_singles(&mut self, (_, id, stage): ReadyKey, request: &Resources) -> bool {
        let Some(job) = self.job(id) else { return true };
        let short_ms = job.short_ms(usize::from(stage.0));
        let mut tasks = job.stages[usize::from(stage.0)].runnable.iter().peekable();
        // The least loaded worker first, again and again: equal tasks are spread.
        let views = self.workers.iter().enumerate();
        let mut open: BTreeSet<(u64, u32, usize)> =
            views.filter(|(_, view)| view.is_open(request)).map(|(at, view)| rank(view, at)).collect();
        while tasks.peek().is_some() && !self.is_full() {
            let Some((_, _, at)) = open.pop_first() else { break };
            let Some(index) = tasks.next() else { break };
            let view = &mut self.workers[at];
            let grant = view.hold(request, short_ms.is_none());
            if view.is_open(request) {
                open.insert(rank(view, at));
            }
            let worker = view.worker();
            self.assign(job, stage, index, worker, grant, false);
        }
        let Some(mean_ms) = short_ms.filter(|_| tasks.peek().is_some()) else {
            return tasks.peek().is_none();
        };
        let views = self.workers.iter().enumerate();
        let mut queues: BTreeSet<(u32, usize)> = views
            .filter(|(_, view)| queues_more(view, request, mean_ms))
            .map(|(at, view)| (view.queued(), at))
            .collect();
        while tasks.peek().is_some() && !self.is_full() {
            let Some((_, at)) = queues.pop_first() else { break };
            let Some(index) = tasks.next() else { break };
            let view = &mut self.workers[at];
            view.queue(request);
            if queues_more(view, request, mean_ms) {
                queues.insert((view.queued(), at));
            }
            let worker = view.worker();
            self.assign(job, stage, index, worker, Grant::default(), true);
        }
        tasks.peek().is_none()
    }
}

fn rank(view: &CapacityView<'_>, at: usize) -> (u64, u32, usize) {
    (view.cpu_share(), view.holding, at)
}

/// Whether one more task is worth its place in the queue: not more than what the worker gets done in a
/// moment.
fn queues_more(view: &CapacityView<'_>, request: &Resources, mean_ms: u64) -> bool {
    let enough = view.slots(request).saturating_mul((QUEUE_MS_MAX / (mean_ms + 1)).max(1));
    view.may_queue(request) && u64::from(view.queued()) < enough
}
