//! A gang starts whole or not at all: one entry assigns all its ranks.

use super::{InvariantResult, violated};
use muster_protocol::event::{Event, EventRecord};
use muster_protocol::ids::{JobId, StageIndex};
use muster_protocol::spec::StageSpec;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Gangs {
    /// By job: of each gang, the first task, the number of ranks, and the stage.
    ranks: BTreeMap<JobId, Vec<(u32, u32, StageIndex)>>,
}

impl Gangs {
    pub fn observe_entry(&mut self, records: &[EventRecord]) -> InvariantResult {
        let mut assigned: BTreeMap<(JobId, StageIndex), u32> = BTreeMap::new();
        let mut formed: Vec<(JobId, StageIndex)> = Vec::new();
        for record in records {
            match &record.event {
                Event::JobSubmitted(submitted) => self.track(submitted.job, &submitted.spec.stages),
                Event::TaskAssigned(one) => {
                    let task = one.attempt.task;
                    let of = |(first, count, _): &&(u32, u32, StageIndex)| {
                        (*first..first + count).contains(&task.index)
                    };
                    if let Some((_, _, stage)) =
                        self.ranks.get(&task.job).and_then(|gangs| gangs.iter().find(of))
                    {
                        *assigned.entry((task.job, *stage)).or_default() += 1;
                    }
                }
                Event::GangFormed(gang) => formed.push((gang.job, gang.stage)),
                _ => {}
            }
        }
        for ((job, stage), count) in &assigned {
            let world =
                self.ranks[job].iter().find(|(_, _, of)| of == stage).map_or(0, |(_, count, _)| *count);
            let formations = formed.iter().filter(|gang| **gang == (*job, *stage)).count() as u32;
            if *count != world * formations || formations == 0 {
                return violated(
                    "gangs",
                    format!("{job} stage {}: {count} of {world} ranks were assigned by one entry", stage.0),
                );
            }
        }
        Ok(())
    }

    fn track(&mut self, job: JobId, stages: &[StageSpec]) {
        let mut first = 0;
        for (index, stage) in (0..).zip(stages) {
            if stage.gang {
                self.ranks.entry(job).or_default().push((first, stage.tasks, StageIndex(index)));
            }
            first += stage.tasks;
        }
    }
}
