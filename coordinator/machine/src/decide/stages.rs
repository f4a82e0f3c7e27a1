//! How a job advances: stages are sealed, succeed, and make others ready.

use super::decider::Decider;
use alloc::string::String;
use muster_protocol::event::{Event, JobEnded, StageEvent};
use muster_protocol::ids::{JobId, StageIndex};
use muster_protocol::outcome::Terminal;

impl Decider<'_> {
    /// Makes the stages from `from` on ready whose needs have all succeeded.
    pub fn ready_stages(&mut self, id: JobId, from: u16) {
        for at in from..self.job(id).stages.len() as u16 {
            let stage = StageIndex(at);
            let job = self.job(id);
            let succeeded = |need: &StageIndex| job.stages[usize::from(need.0)].status.succeeded;
            let needs = &job.stage_spec(stage).needs;
            if !job.stages[usize::from(at)].status.ready && needs.iter().all(succeeded) {
                self.push(Event::StageReadied(StageEvent { job: id, stage }));
                self.settle_stage(id, stage);
            }
        }
    }

    /// A stage has succeeded once it is sealed and all its tasks have; a job, once all its stages have.
    pub fn settle_stage(&mut self, id: JobId, stage: StageIndex) {
        let at = usize::from(stage.0);
        let job = self.job(id);
        if job.unfinished(at) > 0 {
            return;
        }
        let status = &job.stages[at].status;
        if status.ready && status.sealed && !status.succeeded {
            self.push(Event::StageSucceeded(StageEvent { job: id, stage }));
            self.ready_stages(id, stage.0 + 1);
        }
        let job = self.job(id);
        if job.is_open() && job.stages.iter().all(|stage| stage.status.succeeded) {
            return self.push_job_ended(id, Terminal::Succeeded, String::new());
        }
        self.seal_orphans(id);
    }

    /// Seals an open stage that no task can add to any more: no task of the job can run before the stage is
    /// sealed.
    pub fn seal_orphans(&mut self, id: JobId) {
        let job = self.job(id);
        let runs = |at: usize| job.stages[at].status.ready && job.unfinished(at) > 0;
        if !job.is_open() || (0..job.stages.len()).any(runs) {
            return;
        }
        let orphan = job.stages.iter().position(|stage| stage.status.ready && !stage.status.sealed);
        if let Some(orphan) = orphan {
            let stage = StageIndex(orphan as u16);
            self.push_stage_sealed(id, stage);
            self.settle_stage(id, stage);
        }
    }

    pub fn push_stage_sealed(&mut self, job: JobId, stage: StageIndex) {
        self.push(Event::StageSealed(StageEvent { job, stage }));
    }

    pub fn push_job_ended(&mut self, job: JobId, terminal: Terminal, reason: String) {
        self.push(Event::JobEnded(JobEnded { job, terminal, reason }));
    }
}
