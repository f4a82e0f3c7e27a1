//! How a verb can fail, and the exit code for each way.

use crate::{client, jobfile};
use std::process::ExitCode;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A job failed or was cancelled; this has been printed already.
    #[error("the job did not succeed")]
    JobFailed,
    /// Bad usage or bad input; nothing was done.
    #[error("{0}")]
    Input(String),
    /// The cluster could not be reached or has no leader; the outcome is unknown.
    #[error("{0}")]
    Unreachable(String),
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
    /// The reader of standard output closed it.
    #[error("standard output was closed")]
    OutputClosed,
}

impl CliError {
    /// The message to print, unless everything has been said.
    pub fn message(&self) -> Option<String> {
        match self {
            CliError::JobFailed | CliError::OutputClosed => None,
            CliError::Input(_) | CliError::Unreachable(_) | CliError::Other(_) => Some(self.to_string()),
        }
    }

    /// As the README documents it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            CliError::OutputClosed => 0,
            CliError::JobFailed | CliError::Other(_) => 1,
            CliError::Input(_) => 2,
            CliError::Unreachable(_) => 3,
        })
    }
}

impl From<jobfile::Error> for CliError {
    fn from(error: jobfile::Error) -> CliError {
        CliError::Input(error.to_string())
    }
}

impl From<client::Error> for CliError {
    fn from(error: client::Error) -> CliError {
        match &error {
            client::Error::Url { .. } => CliError::Input(error.to_string()),
            client::Error::Refused { status, .. } if status.is_client_error() => {
                CliError::Input(error.to_string())
            }
            client::Error::Refused { .. }
            | client::Error::Unreachable { .. }
            | client::Error::Unreadable { .. } => CliError::Unreachable(error.to_string()),
        }
    }
}
