//! Replays the ledger of a coordinator that is not running. No other file names that entry point.

use crate::error::CliError;
use anyhow::anyhow;
use muster_coordinator::replay::{self, Options, ParseUntilError, ReplayError, Until};
use muster_coordinator::store::StoreError;
use muster_protocol::view::ReplayView;
use std::path::Path;

/// A log index or a time as a user writes it, in the form that the API takes.
pub fn canonical(text: &str) -> Result<String, CliError> {
    let until: Until =
        text.trim().parse().map_err(|error: ParseUntilError| CliError::Input(error.to_string()))?;
    Ok(until.to_string())
}

pub fn fold(
    directory: &Path,
    until: Option<&str>,
    verify: bool,
    from_snapshot: bool,
) -> Result<ReplayView, CliError> {
    let until = until
        .map(str::parse)
        .transpose()
        .map_err(|error: ParseUntilError| CliError::Input(error.to_string()))?;
    replay::offline(directory, Options { until, verify, from_snapshot }).map_err(|error| match &error {
        ReplayError::Store(StoreError::Disk(_))
        | ReplayError::Disk(_)
        | ReplayError::Chain { .. }
        | ReplayError::Malformed { .. }
        | ReplayError::Snapshot(_) => CliError::Other(anyhow!("{error}")),
        // The request asks for something that is not there; the ledger itself may be fine.
        ReplayError::Store(_) | ReplayError::TooEarly { .. } | ReplayError::Incomplete { .. } => {
            CliError::Input(error.to_string())
        }
    })
}
