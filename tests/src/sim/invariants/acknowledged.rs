//! An acknowledged submit is never lost: what a client was told is in the log when it is told, and stays
//! there.

use super::{Verdict, broken};
use muster_protocol::envelope::{Answer, Reply};
use muster_protocol::event::Event;
use muster_protocol::ids::{JobId, RequestId};
use std::collections::BTreeMap;

/// What was told to clients, and what the log holds.
#[derive(Default)]
pub struct Acknowledged {
    recorded: BTreeMap<RequestId, JobId>,
    told: BTreeMap<RequestId, JobId>,
}

impl Acknowledged {
    /// An event of the log.
    pub fn event(&mut self, event: &Event) {
        if let Event::RequestAnswered(answered) = event
            && let Answer::Accepted(accepted) = &answered.answer
            && let Reply::Submitted(submitted) = &accepted.reply
        {
            self.recorded.insert(answered.request, submitted.job);
        }
    }

    /// A client was told that its request became this job. A second telling must be the same.
    pub fn told(&mut self, request: RequestId, job: JobId) -> Verdict {
        if let Some(before) = self.told.insert(request, job)
            && before != job
        {
            return broken("acknowledged", format!("{request} was told to be {before}, then {job}"));
        }
        match self.recorded.get(&request) {
            Some(recorded) if *recorded == job => Ok(()),
            other => broken(
                "acknowledged",
                format!("{request} was acknowledged as {job}, but the log has {other:?}"),
            ),
        }
    }

    /// The jobs that clients were told of.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> + '_ {
        self.told.values().copied()
    }
}
