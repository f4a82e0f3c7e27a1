//! Places a gang: every rank, or none.

use super::capacity::CapacityView;
use super::plan::Plan;
use crate::state::ReadyKey;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use muster_protocol::resources::Resources;

impl Plan<'_> {
    /// Whether the gang found room. Another one with as many ranks that ask for the same would not find it
    /// either.
    pub fn place_gang(&mut self, (_, id, stage): ReadyKey, request: &Resources) -> bool {
        let Some(job) = self.job(id) else { return true };
        let ranks: Vec<u32> = job.stages[usize::from(stage.0)].runnable.iter().collect();
        // Fewest ranks of this gang first, then the least loaded.
        let mut open: BTreeSet<(u32, u64, u32, usize)> = BTreeSet::new();
        for (at, view) in self.workers.iter().enumerate().filter(|(_, view)| view.is_open(request)) {
            open.insert((0, view.cpu_share(), view.holding, at));
        }
        // Rank 0 is where the others meet: its worker has a port.
        let Some(meeting) = open.iter().find(|(_, _, _, at)| self.workers[*at].has_port()).copied() else {
            return false;
        };
        let mut trial: BTreeMap<usize, CapacityView<'_>> = BTreeMap::new();
        let mut places: Vec<(usize, u32)> = Vec::new();
        let mut next = Some(meeting);
        for _ in &ranks {
            let Some((here, share, holding, at)) = next.take().or_else(|| open.first().copied()) else {
                return false;
            };
            open.remove(&(here, share, holding, at));
            let view = trial.entry(at).or_insert_with(|| self.workers[at].clone());
            view.hold(request, true);
            if view.is_open(request) {
                open.insert((here + 1, view.cpu_share(), view.holding, at));
            }
            match places.iter_mut().find(|(place, _)| *place == at) {
                Some((_, count)) => *count += 1,
                None => places.push((at, 1)),
            }
        }
        // Neighbouring ranks share a worker, that of rank 0 first.
        let mut ranks = ranks.into_iter();
        for (at, count) in places {
            for index in ranks.by_ref().take(count as usize) {
                let grant = self.workers[at].hold(request, true);
                self.assign(job, stage, index, self.workers[at].worker(), grant, false);
            }
        }
        self.workers[meeting.3].take_port();
        true
    }
}
