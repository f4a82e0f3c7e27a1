//! Rejections with a message.

use alloc::string::String;
use muster_protocol::rejection::{Detail, Invalid, Rejection};

pub(super) fn unknown(message: String) -> Rejection {
    Rejection::Unknown(Detail { message })
}

pub(super) fn wrong_state(message: String) -> Rejection {
    Rejection::WrongState(Detail { message })
}

pub(super) fn stale(message: String) -> Rejection {
    Rejection::Stale(Detail { message })
}

pub(super) fn over_limit(message: String) -> Rejection {
    Rejection::LimitExceeded(Detail { message })
}

pub(super) fn invalid(field: impl Into<String>, message: String) -> Rejection {
    Rejection::Invalid(Invalid { field: field.into(), message })
}
