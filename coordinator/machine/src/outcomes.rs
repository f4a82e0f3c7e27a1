//! What outcomes mean: whether the task failed, what is kept of a report, and how it reads.

use alloc::format;
use alloc::string::{String, ToString};
use muster_protocol::ids::TaskId;
use muster_protocol::limits;
use muster_protocol::outcome::{Failed, Outcome, Reason, Succeeded};
use muster_protocol::spec::TaskKind;

/// Whether the attempt itself failed, which costs a retry.
pub(crate) fn is_own_failure(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failed(_) | Outcome::TimedOut(_) | Outcome::NotStarted(_) => true,
        Outcome::Succeeded(_) | Outcome::Cancelled(_) | Outcome::Lost(_) | Outcome::GangBroken(_) => false,
    }
}

/// Why a job failed, for people.
pub(crate) fn failure(task: TaskId, outcome: Option<&Outcome>) -> String {
    match outcome {
        None => format!("{task} failed"),
        Some(outcome) if outcome.message().is_empty() => format!("{task}: {}", outcome.word()),
        Some(outcome) => format!("{task}: {}: {}", outcome.word(), outcome.message()),
    }
}

/// The outcome that counts when a worker reports one that nobody asked for. Texts are cut to their limits, a
/// service that ends has failed, and an attempt that the worker itself gave up is lost, which is no failure
/// of the task.
pub(crate) fn sanitize_outcome(outcome: &Outcome, kind: TaskKind) -> Outcome {
    match outcome {
        Outcome::Succeeded(_) if kind == TaskKind::Service => Outcome::Failed(Failed {
            exit_code: Some(0),
            signal: None,
            message: "a service ended by itself".to_string(),
        }),
        Outcome::Succeeded(Succeeded { output }) if output.len() > limits::PROGRESS_BODY_BYTES_MAX => {
            let message =
                format!("an output of {} bytes; at most {}", output.len(), limits::PROGRESS_BODY_BYTES_MAX);
            Outcome::Failed(Failed { exit_code: Some(0), signal: None, message })
        }
        Outcome::Succeeded(_) => outcome.clone(),
        Outcome::Failed(failed) => Outcome::Failed(Failed {
            exit_code: failed.exit_code,
            signal: failed.signal,
            message: clip(&failed.message),
        }),
        Outcome::TimedOut(reason) => Outcome::TimedOut(Reason { message: clip(&reason.message) }),
        Outcome::NotStarted(reason) => Outcome::NotStarted(Reason { message: clip(&reason.message) }),
        Outcome::Cancelled(reason) | Outcome::Lost(reason) | Outcome::GangBroken(reason) => {
            Outcome::Lost(Reason { message: clip(&reason.message) })
        }
    }
}

/// A text cut to what is kept, never within a character.
pub(crate) fn clip(text: &str) -> String {
    let mut end = text.len().min(limits::PROGRESS_BODY_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_string()
}
