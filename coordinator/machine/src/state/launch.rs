//! What a worker is told about a live attempt, found from the state whenever it is asked for.

use crate::state::{Job, Live, State, Step};
use muster_protocol::bus::{Launch, Rendezvous, Stop};
use muster_protocol::ids::{AttemptId, StageIndex};

impl State {
    /// How to run a live attempt; `None` if it is not live, or is to end: then its worker is told to
    /// [`stop`](State::stop) it.
    pub fn launch(&self, attempt: AttemptId) -> Option<Launch> {
        let (job, stage, live) = self.live(attempt)?;
        if live.stopping.is_some() {
            return None;
        }
        Some(self.launch_of(attempt, job, stage, live))
    }

    fn launch_of(&self, attempt: AttemptId, job: &Job, stage: StageIndex, live: &Live) -> Launch {
        let at = usize::from(stage.0);
        let spec = job.stage_spec(stage);
        let number = attempt.task.index;
        let place = job.place_of(number, stage);
        let gang = job.stages[at].gang.filter(|_| spec.gang).map(|gang| Rendezvous {
            formation: job.stages[at].formations,
            address: self.worker(gang.worker).map(|worker| worker.hello.address.clone()).unwrap_or_default(),
            port: gang.port,
        });
        Launch {
            attempt,
            job_name: job.spec.name.clone(),
            stage,
            stage_name: spec.name.clone(),
            work: spec.work.clone(),
            job_params: job.spec.params.clone(),
            child_params: job.child(number).map(|child| child.params.clone()).unwrap_or_default(),
            array_index: spec.array_first.saturating_add(u64::from(place) * u64::from(spec.array_step)),
            rank: place,
            world: job.stage_tasks(at),
            gang,
            request: spec.request.clone(),
            grant: live.grant.clone(),
            queued: live.step == Step::Queued,
            grace_ms: spec.grace_ms,
            on_partition: spec.on_partition,
        }
    }

    /// How to end an attempt that is live and was told to stop. It is said until its worker reports the end;
    /// a worker that never held it reports the end at once.
    pub fn stop(&self, attempt: AttemptId) -> Option<Stop> {
        let (job, stage, live) = self.live(attempt)?;
        let outcome = live.stopping.clone()?;
        Some(Stop { attempt, outcome, grace_ms: job.stage_spec(stage).grace_ms })
    }
}
