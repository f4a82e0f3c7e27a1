//! What the events themselves must be like, whatever the state says: seen by someone who keeps books of his
//! own.

use muster_protocol::event::Event;
use muster_protocol::ids::{AttemptId, JobId, TaskId};
use muster_protocol::outcome::Terminal;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Oracle {
    terminals: BTreeMap<TaskId, Terminal>,
    jobs: BTreeMap<JobId, Option<Terminal>>,
    epochs: BTreeMap<TaskId, u32>,
    live: BTreeSet<AttemptId>,
    /// How often each kind of event was seen.
    pub kinds: BTreeMap<&'static str, u64>,
}

impl Oracle {
    pub fn see(&mut self, event: &Event) {
        *self.kinds.entry(event.name()).or_insert(0) += 1;
        match event {
            Event::JobSubmitted(e) => assert!(self.jobs.insert(e.job, None).is_none(), "{} twice", e.job),
            Event::JobEnded(e) => {
                assert_eq!(self.jobs.insert(e.job, Some(e.terminal)), Some(None), "{} ended twice", e.job);
                assert!(
                    !self.live.iter().any(|attempt| attempt.task.job == e.job),
                    "{} ended before its attempts",
                    e.job
                );
            }
            Event::JobRetried(e) => {
                assert!(self.jobs.insert(e.job, None).flatten().is_some(), "{} has not ended", e.job);
                self.terminals.retain(|task, terminal| task.job != e.job || *terminal == Terminal::Succeeded);
            }
            Event::TaskAssigned(e) => {
                let epoch = self.epochs.entry(e.attempt.task).or_insert(0);
                assert_eq!(e.attempt.epoch, *epoch + 1, "{} follows {epoch}", e.attempt);
                *epoch += 1;
                assert!(!self.terminals.contains_key(&e.attempt.task), "{} has ended", e.attempt.task);
                assert!(
                    !self.live.iter().any(|attempt| attempt.task == e.attempt.task),
                    "{} lives already",
                    e.attempt.task
                );
                assert_eq!(
                    self.jobs.get(&e.attempt.task.job),
                    Some(&None),
                    "the job of {} has ended",
                    e.attempt
                );
                self.live.insert(e.attempt);
            }
            Event::AttemptStarted(e) => {
                assert!(self.live.contains(&e.attempt), "{} does not live", e.attempt)
            }
            Event::AttemptStopped(e) => {
                assert!(self.live.contains(&e.attempt), "{} does not live", e.attempt)
            }
            Event::ProgressRecorded(e) => {
                assert!(self.live.contains(&e.attempt), "{} does not live", e.attempt)
            }
            Event::AttemptEnded(e) => assert!(self.live.remove(&e.attempt), "{} does not live", e.attempt),
            Event::TaskEnded(e) => {
                assert_eq!(self.terminals.insert(e.task, e.terminal), None, "{} ended twice", e.task);
                assert!(
                    !self.live.iter().any(|attempt| attempt.task == e.task),
                    "{} ended before its attempt",
                    e.task
                );
            }
            Event::TaskRequeued(e) => assert!(!self.terminals.contains_key(&e.task), "{} has ended", e.task),
            Event::TaskReadied(e) => assert!(!self.terminals.contains_key(&e.task), "{} has ended", e.task),
            Event::JobCancelled(_)
            | Event::StageReadied(_)
            | Event::StageSealed(_)
            | Event::StageSucceeded(_)
            | Event::TasksAdded(_)
            | Event::WorkerRegistered(_)
            | Event::WorkerSuspected(_)
            | Event::WorkerRecovered(_)
            | Event::WorkerLost(_)
            | Event::WorkerDrained(_)
            | Event::WorkerUndrained(_)
            | Event::GangFormed(_)
            | Event::LeaderTookOver(_)
            | Event::CommandFaulted(_)
            | Event::VersionRaised(_)
            | Event::RequestAnswered(_)
            | Event::HintsUsed(_) => {}
        }
    }
}
