//! A job that has not ended can move: something of it runs, may start, or waits for a moment; one that is
//! ending has attempts to end.

use crate::state::{Phase, State};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    for job in state.core.jobs.values() {
        let moves = match &job.phase {
            Phase::Open => {
                !job.active.is_empty() || job.stages.iter().any(|stage| !stage.placeable.is_empty())
            }
            Phase::Cancelling { .. } | Phase::Failing { .. } => job.live > 0,
            Phase::Ended { .. } => true,
        };
        if !moves {
            broken.push(format!("moves: nothing of {} can move any more", job.id));
        }
        for (at, stage) in job.stages.iter().enumerate() {
            let done = stage.ready && stage.sealed && job.unfinished(at) == 0;
            if done != stage.succeeded && job.phase == Phase::Open {
                broken.push(format!(
                    "moves: {} stage {at} is done, but did not succeed, or the other way round",
                    job.id
                ));
            }
        }
    }
}
