//! `muster replay`: through the API, or from a data directory of a stopped coordinator.

use super::connect::client;
use crate::args::ReplayArgs;
use crate::error::CliError;
use crate::offline;
use crate::render::style::Style;
use crate::render::{self, replay};
use anyhow::anyhow;
use muster_protocol::view::ReplayView;

pub async fn replay(arguments: ReplayArgs) -> Result<(), CliError> {
    let until = arguments.until.as_deref().map(offline::canonical).transpose()?;
    let view: ReplayView = match &arguments.data {
        Some(directory) => {
            offline::fold(directory, until.as_deref(), arguments.verify, arguments.from_snapshot)?
        }
        None => {
            let client = client(&arguments.server)?;
            // Selects a coordinator that answers: the replay below asks only that one.
            client.status().await?;
            client.replay(&client.base(), until.as_deref(), arguments.verify, arguments.from_snapshot).await?
        }
    };
    if arguments.server.json {
        render::json(&view)?;
    } else {
        let with_jobs = arguments.jobs || arguments.until.is_some();
        render::out(&replay::replay(&view, with_jobs, Style::of_stdout()))?;
    }
    match view.verified {
        Some(false) => {
            Err(CliError::Other(anyhow!("the events in the ledger differ from those that its commands give")))
        }
        Some(true) | None => Ok(()),
    }
}
