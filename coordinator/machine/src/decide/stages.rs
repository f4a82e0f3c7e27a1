//! How a job moves on: stages that are sealed, succeed, and make others ready.

use super::draft::Draft;
use crate::state::Phase;
use alloc::string::String;
use muster_protocol::ids::{JobId, StageIndex};
use muster_protocol::outcome::Terminal;

impl Draft<'_> {
    /// Makes stages ready that need nothing that has not succeeded, from that one on.
    pub fn ready_stages(&mut self, job: JobId, from: u16) {
        let stored = self.stored(job);
        for at in from..stored.stages.len() as u16 {
            let stage = StageIndex(at);
            let needs = &stored.stage_spec(stage).needs;
            if !self.stage(job, stage).ready && needs.iter().all(|need| self.stage(job, *need).succeeded) {
                self.push_stage_readied(job, stage);
                self.settle_stage(job, stage);
            }
        }
    }

    /// A stage has succeeded once it is sealed and all its tasks have; a job, once all its stages have.
    pub fn settle_stage(&mut self, job: JobId, at: StageIndex) {
        let stage = self.stage(job, at);
        if stage.unfinished > 0 {
            return;
        }
        if stage.ready && stage.sealed && !stage.succeeded {
            self.push_stage_succeeded(job, at);
            self.ready_stages(job, at.0 + 1);
        }
        if self.job(job).phase == Phase::Open && self.job(job).stages.iter().all(|stage| stage.succeeded) {
            return self.push_job_ended(job, Terminal::Succeeded, String::new());
        }
        self.seal_orphans(job);
    }

    /// Seals open stages that nobody can add to any more: no task of the job is left that could run before
    /// they are sealed.
    pub fn seal_orphans(&mut self, id: JobId) {
        let job = self.job(id);
        if job.phase != Phase::Open || job.stages.iter().any(|stage| stage.ready && stage.unfinished > 0) {
            return;
        }
        let orphan = job.stages.iter().position(|stage| stage.ready && !stage.sealed);
        if let Some(orphan) = orphan {
            let stage = StageIndex(orphan as u16);
            self.push_stage_sealed(id, stage);
            self.settle_stage(id, stage);
        }
    }
}
