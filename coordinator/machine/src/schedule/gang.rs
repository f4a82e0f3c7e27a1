//! Places a gang: every rank, or none.

use super::Table;
use super::single::next_attempt;
use crate::room::Room;
use crate::state::ReadyKey;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use muster_protocol::command::Assignment;
use muster_protocol::resources::Resources;

impl Table<'_> {
    /// Whether the gang found room. Another one with as many ranks that ask for the same would not find it
    /// either.
    pub fn place_gang(&mut self, (_, id, stage): ReadyKey, request: &Resources) -> bool {
        let Some(job) = self.state.core.jobs.get(&id) else { return true };
        let ranks: Vec<u32> = job.stages[usize::from(stage.0)].placeable.iter().collect();
        let mut open: BTreeSet<(u32, u64, u32, usize)> = BTreeSet::new();
        for (at, room) in self.rooms.iter().enumerate().filter(|(_, room)| room.is_open(request)) {
            open.insert((0, room.load(), room.holding, at));
        }
        // Rank 0 is where the others meet: its worker has a port.
        let Some(meeting) = open.iter().find(|(_, _, _, at)| self.rooms[*at].peek_port().is_some()).copied()
        else {
            return false;
        };
        let mut trial: BTreeMap<usize, Room<'_>> = BTreeMap::new();
        let mut places: Vec<(usize, u32)> = Vec::new();
        let mut next = Some(meeting);
        for _ in &ranks {
            let Some((here, load, holding, at)) = next.take().or_else(|| open.first().copied()) else {
                return false;
            };
            open.remove(&(here, load, holding, at));
            let room = trial.entry(at).or_insert_with(|| self.rooms[at].clone());
            let grant = room.grant(request);
            room.hold(request, &grant, true);
            if room.is_open(request) {
                open.insert((here + 1, room.load(), room.holding, at));
            }
            match places.iter_mut().find(|(place, _)| *place == at) {
                Some((_, count)) => *count += 1,
                None => places.push((at, 1)),
            }
        }
        // Neighbouring ranks share a worker, that of rank 0 first.
        let mut ranks = ranks.into_iter();
        for (at, count) in places {
            let room = &mut self.rooms[at];
            for index in ranks.by_ref().take(count as usize) {
                let grant = room.grant(request);
                room.hold(request, &grant, true);
                let assignment = Assignment {
                    attempt: next_attempt(job, index),
                    worker: room.worker.id,
                    grant,
                    queued: false,
                };
                self.assignments.push(assignment);
            }
        }
        self.rooms[meeting.3].take_port();
        true
    }
}
