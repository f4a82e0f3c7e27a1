//! Submits the command of a request, and waits until it is applied or its outcome is unknown.

use super::app_state::AppState;
use super::caller::Caller;
use super::error::ApiError;
use axum::Json;
use muster_protocol::command::Command;
use muster_protocol::envelope::{Answer, Reply};
use muster_protocol::ids::JobId;
use muster_protocol::limits::COMMIT_TIMEOUT_MS;
use muster_protocol::view::AcceptedView;
use std::time::Duration;
use tokio::time::timeout;

/// Longer than the replica's own timeout, which knows more: this one is for a replica that hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(COMMIT_TIMEOUT_MS + 2_000);

/// `bytes`: the size of the request's body. `job`: the job that the command is about, if it exists already.
pub async fn submit(
    app: &AppState,
    caller: Caller,
    command: Command,
    bytes: usize,
    job: Option<JobId>,
) -> Result<Json<AcceptedView>, ApiError> {
    let answered =
        timeout(ANSWER_TIMEOUT, app.backend.replica.command(caller.envelope(command), bytes)).await;
    let unknown = |_| ApiError::timed_out("it is not known whether it was done; send the same request again");
    match answered.map_err(unknown)??? {
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
