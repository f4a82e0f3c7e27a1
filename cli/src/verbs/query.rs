//! `muster list`, `show`, `tasks`, `workers` and `status`: one request, one table.

use super::connect::client;
use crate::args::{ListArgs, ServerArgs, ShowArgs, TasksArgs};
use crate::error::CliError;
use crate::render::style::Style;
use crate::render::{self, cluster, jobs};
use muster_protocol::view::TaskPage;

pub async fn list(arguments: ListArgs) -> Result<(), CliError> {
    let found = client(&arguments.server)?.jobs(arguments.state.as_deref(), arguments.limit).await?;
    if arguments.server.json {
        render::json(&found)
    } else {
        render::out(&jobs::list(&found, Style::of_stdout()))
    }
}

pub async fn show(arguments: ShowArgs) -> Result<(), CliError> {
    let detail = client(&arguments.server)?.job(arguments.job).await?;
    if arguments.server.json {
        render::json(&detail)
    } else {
        render::out(&jobs::show(&detail, Style::of_stdout()))
    }
}

pub async fn tasks(arguments: TasksArgs) -> Result<(), CliError> {
    let client = client(&arguments.server)?;
    let page: TaskPage = client.tasks(arguments.job, arguments.from, arguments.limit).await?;
    if arguments.server.json {
        render::json(&page)
    } else {
        render::out(&jobs::tasks(&page, Style::of_stdout()))
    }
}

pub async fn workers(arguments: ServerArgs) -> Result<(), CliError> {
    let found = client(&arguments)?.workers().await?;
    if arguments.json {
        render::json(&found)
    } else {
        render::out(&cluster::workers(&found, Style::of_stdout()))
    }
}

pub async fn status(arguments: ServerArgs) -> Result<(), CliError> {
    let found = client(&arguments)?.status().await?;
    if arguments.json {
        render::json(&found)
    } else {
        render::out(&cluster::status(&found, Style::of_stdout()))
    }
}
