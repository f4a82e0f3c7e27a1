//! An acknowledged submit is never lost: it is in the log before the client is told, and stays there.

use super::{InvariantResult, violated};
use muster_protocol::envelope::{Answer, Reply};
use muster_protocol::event::Event;
use muster_protocol::ids::{JobId, RequestId};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Acknowledged {
    recorded: BTreeMap<RequestId, JobId>,
    acknowledged: BTreeMap<RequestId, JobId>,
}

impl Acknowledged {
    pub fn observe(&mut self, event: &Event) {
        if let Event::RequestAnswered(answered) = event
            && let Answer::Accepted(accepted) = &answered.answer
            && let Reply::Submitted(submitted) = &accepted.reply
        {
            self.recorded.insert(answered.request, submitted.job);
        }
    }

    /// A client was told that its request became this job.
    pub fn acknowledged(&mut self, request: RequestId, job: JobId) -> InvariantResult {
        if let Some(before) = self.acknowledged.insert(request, job)
            && before != job
        {
            return violated("acknowledged", format!("{request} was told to be {before}, then {job}"));
        }
        match self.recorded.get(&request) {
            Some(recorded) if *recorded == job => Ok(()),
            other => violated(
                "acknowledged",
                format!("{request} was acknowledged as {job}, but the log has {other:?}"),
            ),
        }
    }

    pub fn jobs(&self) -> impl Iterator<Item = JobId> + '_ {
        self.acknowledged.values().copied()
    }
}
