//! `muster audit`: replays a job's events and checks what they prove.

use super::connect::client;
use crate::args::JobArgs;
use crate::audit::Audit;
use crate::client::EVENTS_PER_PAGE;
use crate::error::CliError;
use crate::render;
use crate::render::style::Style;
use anyhow::anyhow;
use muster_protocol::outcome::Terminal;

pub async fn samples(arguments: JobArgs) -> Result<(), CliError> {
    let client = client(&arguments.server)?;
    let detail = client.job(arguments.job).await?;
    let mut audit = Audit::of(&detail.spec);
    if audit.stages.is_empty() {
        return Err(CliError::Input(format!(
            "{} has no stage that trains, so there is nothing to audit",
            arguments.job
        )));
    }
    let mut from = 1;
    loop {
        let page = client.events(from, Some(arguments.job), EVENTS_PER_PAGE).await?;
        let Some(last) = page.last() else { break };
        from = last.index.0 + 1;
        page.iter().for_each(|event| audit.take(event));
    }
    audit.close(detail.job.terminal == Some(Terminal::Succeeded));
    if arguments.server.json {
        render::json(&audit)?;
    } else {
        render::out(&render::audit::samples(&audit, Style::of_stdout()))?;
    }
    if audit.holds() {
        Ok(())
    } else {
        Err(CliError::Other(anyhow!("the log does not prove that each sample was consumed exactly once")))
    }
}
