//! What should run where: a pure function of the state, whose result is a command like any other.
//!
//! Stages that ask for the same are one class: when one of them does not fit, the others of its class are not
//! tried. Among those that may fit, larger priority goes first, then the older job. Equal tasks are spread
//! over workers; a gang's ranks, over as many workers as it can. Short tasks queue at workers beyond what
//! fits, so that no slot is idle for a round trip; long ones do not, since another worker may be free before.

mod gang;
mod single;

use crate::room::Room;
use crate::state::{ClassKey, ReadyKey, State};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use muster_protocol::command::{Assign, Assignment, LoadHint};

/// Assignments of one command; a gang that begins below it is still placed as a whole.
pub(crate) const ASSIGNMENTS_MAX: usize = 1024;

/// Proposes assignments; `None`: there is nothing to place, or no room. Costs what is ready and what is free,
/// not what exists.
///
/// `hints` break ties between workers that are equal otherwise, and come back with the assignments only if
/// they could matter.
pub fn schedule(state: &State, hints: &[LoadHint]) -> Option<Assign> {
    if !state.has_ready() {
        return None;
    }
    // Load that is measured follows what the state knows already, a moment later; so far it decides nothing.
    let _ = hints;
    let rooms: Vec<Room<'_>> = state.workers().filter(|worker| worker.takes_work()).map(Room::of).collect();
    let mut table = Table { state, rooms, assignments: Vec::new() };
    table.fill();
    let Table { assignments, .. } = table;
    if assignments.is_empty() { None } else { Some(Assign { assignments, hints: Vec::new() }) }
}

/// What is on the table while assignments are made.
pub(crate) struct Table<'a> {
    pub state: &'a State,
    pub rooms: Vec<Room<'a>>,
    pub assignments: Vec<Assignment>,
}

impl<'a> Table<'a> {
    fn fill(&mut self) {
        // The next stage of each class, so that the order over all is kept, and a class that does not fit is
        // left as a whole.
        let classes: Vec<(&ClassKey, &BTreeSet<ReadyKey>)> = self.state.index.ready.iter().collect();
        let mut next: BTreeSet<(ReadyKey, usize)> = BTreeSet::new();
        for (class, (_, keys)) in classes.iter().enumerate() {
            next.extend(keys.first().map(|key| (*key, class)));
        }
        while let Some((key, class)) = next.pop_first() {
            if self.assignments.len() >= ASSIGNMENTS_MAX {
                return;
            }
            let ((ranks, request), keys) = classes[class];
            let all_placed =
                if *ranks == 0 { self.place_singles(key, request) } else { self.place_gang(key, request) };
            if all_placed {
                let after = keys.range((core::ops::Bound::Excluded(key), core::ops::Bound::Unbounded)).next();
                next.extend(after.map(|key| (*key, class)));
            }
        }
    }
}
