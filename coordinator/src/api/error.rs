//! Error answers with their HTTP status.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use muster_protocol::rejection::Rejection;
use muster_protocol::view::ErrorView;
use muster_replica::CommandError;

/// An answer other than 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    pub view: ErrorView,
}

impl ApiError {
    fn new(status: StatusCode, error: &str, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            view: ErrorView { error: error.to_string(), message: message.into(), field: String::new() },
        }
    }

    /// `field`: what is wrong; empty for the whole request.
    pub fn invalid(field: &str, message: impl Into<String>) -> ApiError {
        let mut error = ApiError::new(StatusCode::BAD_REQUEST, "invalid", message);
        error.view.field = field.to_string();
        error
    }

    pub fn too_large(bytes_max: usize) -> ApiError {
        let message = format!("the body is larger than the limit of {bytes_max} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "limit_exceeded", message)
    }

    pub fn unknown(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "unknown", message)
    }

    /// There is no leader, not yet or no longer.
    pub fn no_leader(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_leader", message)
    }

    pub fn overloaded(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    /// The outcome is unknown.
    pub fn timed_out(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timed_out", message)
    }

    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let message = rejection.to_string();
        match rejection {
            Rejection::Unknown(_) => ApiError::unknown(message),
            Rejection::WrongState(_) => ApiError::new(StatusCode::CONFLICT, "wrong_state", message),
            Rejection::Invalid(invalid) => ApiError::invalid(&invalid.field, invalid.message),
            Rejection::LimitExceeded(_) => {
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "limit_exceeded", message)
            }
            Rejection::Stale(_) => ApiError::new(StatusCode::CONFLICT, "stale", message),
            Rejection::RequestReused(_) => {
                ApiError { status: StatusCode::CONFLICT, ..ApiError::invalid("Idempotency-Key", message) }
            }
            Rejection::Faulted(_) => ApiError::internal(message),
        }
    }
}

impl From<CommandError> for ApiError {
    fn from(unanswered: CommandError) -> Self {
        match unanswered {
            CommandError::NotLeader { leader: Some(leader) } => {
                ApiError::no_leader(format!("{leader} leads now; nothing was done"))
            }
            CommandError::NotLeader { leader: None } => {
                ApiError::no_leader("there is no leader now; nothing was done")
            }
            CommandError::Overloaded => {
                ApiError::overloaded("too many commands are waiting; nothing was done")
            }
            CommandError::DiskFull => {
                ApiError::overloaded("the leader's disk is nearly full; nothing was done")
            }
            CommandError::OutcomeUnknown => {
                ApiError::timed_out("it is not known whether it was done; send the same request again")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.view)).into_response()
    }
}
