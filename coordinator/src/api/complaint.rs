//! What is said when something is wrong, with the HTTP status that fits.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use muster_protocol::rejection::Rejection;
use muster_protocol::view::ErrorView;
use muster_replica::Unanswered;

/// An answer other than 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The status.
    pub status: StatusCode,
    /// What is said.
    pub view: ErrorView,
}

impl Complaint {
    fn new(status: StatusCode, error: &str, message: impl Into<String>) -> Complaint {
        Complaint {
            status,
            view: ErrorView { error: error.to_string(), message: message.into(), field: String::new() },
        }
    }

    /// A field of the request is wrong; an empty field: all of it.
    pub fn invalid(field: &str, message: impl Into<String>) -> Complaint {
        let mut complaint = Complaint::new(StatusCode::BAD_REQUEST, "invalid", message);
        complaint.view.field = field.to_string();
        complaint
    }

    /// The body is larger than it may be.
    pub fn too_large(bytes_max: usize) -> Complaint {
        let message = format!("the body is larger than {bytes_max} bytes, the most that is possible");
        Complaint::new(StatusCode::PAYLOAD_TOO_LARGE, "limit_exceeded", message)
    }

    /// There is no such thing.
    pub fn unknown(message: impl Into<String>) -> Complaint {
        Complaint::new(StatusCode::NOT_FOUND, "unknown", message)
    }

    /// Nobody leads, or not yet, or no more.
    pub fn no_leader(message: impl Into<String>) -> Complaint {
        Complaint::new(StatusCode::SERVICE_UNAVAILABLE, "no_leader", message)
    }

    /// Too much is asked for.
    pub fn overloaded(message: impl Into<String>) -> Complaint {
        Complaint::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    /// It is not known whether anything was done.
    pub fn timed_out(message: impl Into<String>) -> Complaint {
        Complaint::new(StatusCode::GATEWAY_TIMEOUT, "timed_out", message)
    }

    /// The coordinator itself is at fault.
    pub fn internal(message: impl Into<String>) -> Complaint {
        Complaint::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl From<Rejection> for Complaint {
    fn from(rejection: Rejection) -> Self {
        let message = rejection.to_string();
        match rejection {
            Rejection::Unknown(_) => Complaint::unknown(message),
            Rejection::WrongState(_) => Complaint::new(StatusCode::CONFLICT, "wrong_state", message),
            Rejection::Invalid(invalid) => Complaint::invalid(&invalid.field, invalid.message),
            Rejection::LimitExceeded(_) => {
                Complaint::new(StatusCode::TOO_MANY_REQUESTS, "limit_exceeded", message)
            }
            Rejection::Stale(_) => Complaint::new(StatusCode::CONFLICT, "stale", message),
            Rejection::RequestReused(_) => {
                Complaint { status: StatusCode::CONFLICT, ..Complaint::invalid("Idempotency-Key", message) }
            }
            Rejection::Faulted(_) => Complaint::internal(message),
        }
    }
}

impl From<Unanswered> for Complaint {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NotLeader { leader: Some(leader) } => {
                Complaint::no_leader(format!("{leader} leads now; nothing was done"))
            }
            Unanswered::NotLeader { leader: None } => {
                Complaint::no_leader("there is no leader now; nothing was done")
            }
            Unanswered::Overloaded => {
                Complaint::overloaded("too many commands are waiting; nothing was done")
            }
            Unanswered::NoSpace => {
                Complaint::overloaded("the leader's disk is nearly full; nothing was done")
            }
            Unanswered::Unknown => {
                Complaint::timed_out("it is not known whether it was done; send the same request again")
            }
        }
    }
}

impl IntoResponse for Complaint {
    fn into_response(self) -> Response {
        (self.status, Json(self.view)).into_response()
    }
}
