//! `muster cancel`, `retry` and `drain`: each change is one request under one id, however often it is sent.

use super::connect::client;
use crate::args::{CancelArgs, DrainArgs, JobArgs};
use crate::client::Client;
use crate::error::CliError;
use crate::render;
use muster_protocol::ids::WorkerId;

pub async fn cancel(arguments: CancelArgs) -> Result<(), CliError> {
    let client = client(&arguments.server)?;
    let mut accepted = Vec::new();
    for job in arguments.jobs {
        accepted.push(client.cancel(job, &arguments.reason).await?);
        if !arguments.server.json {
            render::line(&format!("{job} is being cancelled"))?;
        }
    }
    if !arguments.server.json {
        return Ok(());
    }
    match accepted.as_slice() {
        [one] => render::json(one),
        more => render::json(more),
    }
}

pub async fn retry(arguments: JobArgs) -> Result<(), CliError> {
    let accepted = client(&arguments.server)?.retry(arguments.job).await?;
    if arguments.server.json {
        return render::json(&accepted);
    }
    render::line(&format!("{} runs again", arguments.job))
}

pub async fn drain(arguments: DrainArgs) -> Result<(), CliError> {
    let client = client(&arguments.server)?;
    let worker = find(&client, &arguments.worker).await?;
    let accepted = client.drain(worker, !arguments.undo).await?;
    if arguments.server.json {
        return render::json(&accepted);
    }
    let what = if arguments.undo { "takes work again" } else { "takes no new work" };
    render::line(&format!("{worker} {what}"))
}

/// A worker by its id, or by its name if only one has it.
async fn find(client: &Client, text: &str) -> Result<WorkerId, CliError> {
    if let Ok(worker) = text.parse() {
        return Ok(worker);
    }
    let workers = client.workers().await?;
    let named: Vec<WorkerId> =
        workers.iter().filter(|worker| worker.name == text).map(|worker| worker.id).collect();
    match named.as_slice() {
        [one] => Ok(*one),
        [] => Err(CliError::Input(format!("there is no worker {text:?}: `muster workers` lists them"))),
        more => {
            let ids: Vec<String> = more.iter().map(ToString::to_string).collect();
            Err(CliError::Input(format!(
                "{} workers are named {text:?}: use one of the ids {}",
                more.len(),
                ids.join(", ")
            )))
        }
    }
}
