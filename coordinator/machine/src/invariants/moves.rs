//! A job that has not ended can move: something of it runs, may start, or waits for a moment; one that is
//! ending has attempts to end.

use crate::state::{Phase, State};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    for job in state.records.jobs.values() {
        let moves = match &job.status.phase {
            Phase::Open => !job.tasks.is_empty() || job.stages.iter().any(|stage| !stage.runnable.is_empty()),
            Phase::Cancelling { .. } | Phase::Failing { .. } => job.status.active > 0,
            Phase::Ended { .. } => true,
        };
        if !moves {
            broken.push(format!("moves: nothing of {} can move any more", job.id));
        }
        for (at, stage) in job.stages.iter().enumerate() {
            let done = stage.status.ready && stage.status.sealed && job.unfinished(at) == 0;
            if done != stage.status.succeeded && job.status.phase == Phase::Open {
                broken.push(format!(
                    "moves: {} stage {at} is done, but did not succeed, or the other way round",
                    job.id
                ));
            }
        }
    }
}
