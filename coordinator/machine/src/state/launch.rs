//! What a worker is told about an active attempt: derived from the state at any time.

use crate::state::{ActiveAttempt, AttemptPhase, Job, State};
use muster_protocol::bus::{Launch, Rendezvous, Stop};
use muster_protocol::ids::{AttemptId, StageIndex};

impl State {
    /// How to run an active attempt. `None`: it is not active, or was told to [`stop`](State::stop).
    pub fn launch(&self, attempt: AttemptId) -> Option<Launch> {
        let (job, stage, active) = self.active_attempt(attempt)?;
        if active.stopping.is_some() {
            return None;
        }
        Some(self.launch_of(attempt, job, stage, active))
    }

    fn launch_of(&self, attempt: AttemptId, job: &Job, stage: StageIndex, active: &ActiveAttempt) -> Launch {
        let at = usize::from(stage.0);
        let spec = job.stage_spec(stage);
        let number = attempt.task.index;
        let place = job.place_of(number, stage);
        let gang = job.stages[at].status.gang.filter(|_| spec.gang).map(|gang| Rendezvous {
            formation: job.stages[at].status.formations,
            address: self
                .worker(gang.worker)
                .map(|worker| worker.hello().address.clone())
                .unwrap_or_default(),
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
            grant: active.grant.clone(),
            queued: active.phase == AttemptPhase::Queued,
            grace_ms: spec.grace_ms,
            on_partition: spec.on_partition,
        }
    }

    /// How to end an active attempt that was told to stop. Its worker is told until it reports the end; a
    /// worker that never held it reports the end at once.
    pub fn stop(&self, attempt: AttemptId) -> Option<Stop> {
        let (job, stage, active) = self.active_attempt(attempt)?;
        let outcome = active.stopping.clone()?;
        Some(Stop { attempt, outcome, grace_ms: job.stage_spec(stage).grace_ms })
    }
}
