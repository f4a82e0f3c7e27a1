//! Gangs are whole or not at all: their ranks are assigned together, and succeed together.

use crate::state::{Job, Phase, State, TaskState};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use muster_protocol::outcome::Terminal;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    let mut ports = BTreeSet::new();
    for job in state.records.jobs.values() {
        for (at, spec) in job.spec.stages.iter().enumerate() {
            let stage = &job.stages[at];
            let place = format!("gangs: {} stage {at}", job.id);
            if let Some(gang) = stage.status.gang
                && !ports.insert((gang.worker, gang.port))
            {
                broken.push(format!("{place}: port {} of {} is used twice", gang.port, gang.worker));
            }
            if stage.status.gang.is_some() != (spec.gang && stage.status.assigned + stage.status.running > 0)
            {
                broken.push(format!("{place}: formed, but nothing lives, or the other way round"));
            }
            if spec.gang {
                check_ranks(job, at, &place, broken);
            }
        }
    }
    for worker in state.workers() {
        let held: BTreeSet<u16> =
            ports.range((worker.id, 0)..=(worker.id, u16::MAX)).map(|(_, port)| *port).collect();
        if held != worker.load.ports_used {
            broken.push(format!(
                "gangs: the ports of {} are {held:?}, not {:?}",
                worker.id, worker.load.ports_used
            ));
        }
    }
}

fn check_ranks(job: &Job, at: usize, place: &str, broken: &mut Vec<String>) {
    let first = job.stages[at].first;
    let ranks = first..first + job.spec.stages[at].tasks;
    let epochs: BTreeSet<u32> =
        ranks.clone().map(|rank| job.history(rank).map_or(0, |history| history.epoch)).collect();
    if epochs.len() > 1 {
        broken.push(format!("{place}: its ranks have different epochs: {epochs:?}"));
    }
    let succeeded = ranks.clone().filter(|rank| job.terminal_of(*rank) == Some(Terminal::Succeeded)).count();
    let is_met = |rank: &u32| {
        let task = job.tasks.get(rank);
        task.is_some_and(|task| matches!(task.state, TaskState::Active(_) | TaskState::AwaitingGang))
    };
    let met = ranks.clone().filter(is_met).count();
    if succeeded != 0 && succeeded != ranks.len() {
        broken.push(format!("{place}: {succeeded} of {} ranks succeeded", ranks.len()));
    }
    if job.status.phase == Phase::Open && met != 0 && met != ranks.len() {
        broken.push(format!("{place}: {met} of {} ranks are together", ranks.len()));
    }
}
