//! Gangs start whole or not at all: all ranks are assigned by one entry, and none of them outside such an
//! entry.

use super::{Verdict, broken};
use muster_protocol::event::{Event, EventRecord};
use muster_protocol::ids::{JobId, StageIndex};
use muster_protocol::spec::StageSpec;
use std::collections::BTreeMap;

/// The gangs there are.
#[derive(Default)]
pub struct Gangs {
    /// By job: the first task's number, how many, and which stage.
    ranks: BTreeMap<JobId, Vec<(u32, u32, StageIndex)>>,
}

impl Gangs {
    /// The events of one entry.
    pub fn entry(&mut self, records: &[EventRecord]) -> Verdict {
        let mut assigned: BTreeMap<(JobId, StageIndex), u32> = BTreeMap::new();
        let mut formed: Vec<(JobId, StageIndex)> = Vec::new();
        for record in records {
            match &record.event {
                Event::JobSubmitted(submitted) => self.remember(submitted.job, &submitted.spec.stages),
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
            let lives = formed.iter().filter(|gang| **gang == (*job, *stage)).count() as u32;
            if *count != world * lives || lives == 0 {
                return broken(
                    "gangs",
                    format!("{job} stage {}: {count} of {world} ranks were assigned by one entry", stage.0),
                );
            }
        }
        Ok(())
    }

    fn remember(&mut self, job: JobId, stages: &[StageSpec]) {
        let mut first = 0;
        for (index, stage) in (0..).zip(stages) {
            if stage.gang {
                self.ranks.entry(job).or_default().push((first, stage.tasks, StageIndex(index)));
            }
            first += stage.tasks;
        }
    }
}
