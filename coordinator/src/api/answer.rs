//! From a request that changes something to its answer: it waits until the command was applied, or it is
//! clear that nobody knows.

use super::Shared;
use super::caller::Caller;
use super::complaint::Complaint;
use axum::Json;
use muster_protocol::command::Command;
use muster_protocol::envelope::{Answer, Reply};
use muster_protocol::ids::JobId;
use muster_protocol::limits::COMMIT_TIMEOUT_MS;
use muster_protocol::view::AcceptedView;
use std::time::Duration;
use tokio::time::timeout;

/// The core gives up first, and knows more; this is for a core that hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(COMMIT_TIMEOUT_MS + 2_000);

/// Asks for a command whose body had so many bytes; `job` is what it is about.
pub async fn to(
    shared: &Shared,
    caller: Caller,
    command: Command,
    bytes: usize,
    job: Option<JobId>,
) -> Result<Json<AcceptedView>, Complaint> {
    let asked = timeout(ANSWER_TIMEOUT, shared.api.inlet.command(caller.envelope(command), bytes)).await;
    let unknown =
        |_| Complaint::timed_out("it is not known whether it was done; send the same request again");
    match asked.map_err(unknown)??? {
        Answer::Accepted(accepted) => {
            let job = match accepted.reply {
                Reply::Submitted(submitted) => Some(submitted.job),
                Reply::Done(_) | Reply::TasksAdded(_) | Reply::Registered(_) => job,
            };
            Ok(Json(AcceptedView { index: accepted.index, job }))
        }
        Answer::Rejected(rejected) => Err(rejected.rejection.into()),
    }
}
