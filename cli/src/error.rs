//! How a verb ends when it does not end well, and with which exit code.

use crate::{client, jobfile};
use std::process::ExitCode;

/// Why a verb did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A job failed or was cancelled; it was said already.
    #[error("the job did not succeed")]
    Job,
    /// Bad usage or bad input: nothing was done.
    #[error("{0}")]
    Input(String),
    /// The cluster could not be reached, or has no leader: the outcome is unknown.
    #[error("{0}")]
    Unreachable(String),
    /// Something else failed.
    #[error("{0:#}")]
    Broken(#[from] anyhow::Error),
    /// Whoever read what we print has seen enough.
    #[error("the reader is gone")]
    Closed,
}

impl Failure {
    /// What is left to say about it.
    pub fn message(&self) -> Option<String> {
        match self {
            Failure::Job | Failure::Closed => None,
            Failure::Input(_) | Failure::Unreachable(_) | Failure::Broken(_) => Some(self.to_string()),
        }
    }

    /// The exit code, as documented.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Closed => 0,
            Failure::Job | Failure::Broken(_) => 1,
            Failure::Input(_) => 2,
            Failure::Unreachable(_) => 3,
        })
    }
}

impl From<jobfile::Error> for Failure {
    fn from(error: jobfile::Error) -> Failure {
        Failure::Input(error.to_string())
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        match &error {
            client::Error::Url { .. } => Failure::Input(error.to_string()),
            client::Error::Refused { status, .. } if status.is_client_error() => {
                Failure::Input(error.to_string())
            }
            client::Error::Refused { .. }
            | client::Error::Unreachable { .. }
            | client::Error::Unreadable { .. } => Failure::Unreachable(error.to_string()),
        }
    }
}
