//! The assignments made so far, and what they leave of each worker.

use super::capacity::CapacityView;
use crate::state::{ClassKey, Job, ReadyKey, State};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::Bound;
use muster_protocol::command::Assignment;
use muster_protocol::ids::{JobId, StageIndex, WorkerId};
use muster_protocol::resources::Grant;

/// Assignments of one command; a gang that begins below it is still placed as a whole.
const ASSIGNMENTS_MAX: usize = 1024;

pub(super) struct Plan<'a> {
    state: &'a State,
    /// Workers that take work.
    pub workers: Vec<CapacityView<'a>>,
    assignments: Vec<Assignment>,
}

impl<'a> Plan<'a> {
    pub fn new(state: &'a State) -> Self {
        let takers = state.workers().filter(|worker| worker.takes_work());
        Plan { state, workers: takers.map(CapacityView::new).collect(), assignments: Vec::new() }
    }

    pub fn is_full(&self) -> bool {
        self.assignments.len() >= ASSIGNMENTS_MAX
    }

    pub fn job(&self, id: JobId) -> Option<&'a Job> {
        self.state.job(id)
    }

    /// Adds the next attempt of a task.
    pub fn assign(
        &mut self,
        job: &Job,
        stage: StageIndex,
        index: u32,
        worker: WorkerId,
        grant: Grant,
        queued: bool,
    ) {
        self.assignments.push(Assignment { attempt: job.next_attempt(stage, index), worker, grant, queued });
    }

    pub fn into_assignments(self) -> Vec<Assignment> {
        self.assignments
    }

    /// Ready stages with their classes, in the order in which they are served. The next stage of each class
    /// is tried, so that the order over all is kept, and a class that does not fit is left as a whole.
    pub fn fill(&mut self) {
        let state = self.state;
        let classes: Vec<(&ClassKey, _)> = state.index.ready.iter().collect();
        let mut next: BTreeSet<(ReadyKey, usize)> = BTreeSet::new();
        for (class, (_, keys)) in classes.iter().enumerate() {
            next.extend(keys.first_key().map(|key| (*key, class)));
        }
        while let Some((key, class)) = next.pop_first() {
            if self.is_full() {
                return;
            }
            let ((ranks, request), keys) = classes[class];
            let all_placed =
                if *ranks == 0 { self.place_singles(key, request) } else { self.place_gang(key, request) };
            if all_placed {
                let after = keys.range((Bound::Excluded(key), Bound::Unbounded)).next();
                next.extend(after.map(|(key, ())| (*key, class)));
            }
        }
    }
}
