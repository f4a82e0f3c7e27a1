//! `muster submit` and `muster run`.

use super::connect::client;
use super::{logs, wait};
use crate::args::{RunArgs, ServerArgs, SubmitArgs};
use crate::client::Client;
use crate::error::CliError;
use crate::render::style::Style;
use crate::render::{self, plan};
use crate::{jobfile, quantities};
use anyhow::Context;
use muster_protocol::limits;
use muster_protocol::resources::Resources;
use muster_protocol::spec::{JobSpec, OnPartition, ProcessWork, RetryPolicy, StageSpec, TaskKind, Work};
use std::env;
use std::path::Path;
use std::sync::Arc;

pub async fn submit(arguments: SubmitArgs) -> Result<(), CliError> {
    let spec = jobfile::read(&arguments.file)?;
    if arguments.dry_run {
        return dry_run(&spec, &arguments.server);
    }
    send(spec, arguments.wait, false, &arguments.server).await
}

pub async fn run(arguments: RunArgs) -> Result<(), CliError> {
    let spec = spec_of(&arguments)?;
    if arguments.dry_run {
        return dry_run(&spec, &arguments.server);
    }
    let wait = arguments.wait;
    send(spec, wait, wait && !arguments.server.json, &arguments.server).await
}

fn dry_run(spec: &JobSpec, server: &ServerArgs) -> Result<(), CliError> {
    if server.json {
        return render::json(spec);
    }
    let style = Style::of_stdout();
    render::out(&(plan::plan(spec, style) + &plan::parameters(spec, style)))
}

async fn send(spec: JobSpec, wait: bool, with_output: bool, server: &ServerArgs) -> Result<(), CliError> {
    let client: Arc<Client> = client(server)?;
    let accepted = client.submit(&spec).await?;
    let Some(job) = accepted.job.filter(|_| wait) else {
        return match (server.json, accepted.job) {
            (false, Some(job)) => render::line(&job.to_string()),
            (true, _) | (false, None) => render::json(&accepted),
        };
    };
    if server.json {
        let ended = wait::until_ended(&client, job, &mut render::progress::ProgressDisplay::silent()).await?;
        render::json(&client.job(job).await?)?;
        return wait::verdict([&ended]);
    }
    if !with_output {
        render::line(&job.to_string())?;
        return wait::wait_for(&client, &[job]).await;
    }
    render::note(&job.to_string());
    logs::follow_job(&client, job).await?;
    wait::wait_for_quietly(&client, job).await
}

fn spec_of(arguments: &RunArgs) -> Result<JobSpec, CliError> {
    let input = |message: String| CliError::Input(message);
    let program = arguments.command.first().map(String::as_str).unwrap_or_default();
    if program.is_empty() {
        return Err(input("the command must begin with a program".to_string()));
    }
    let base = Path::new(program)
        .file_name()
        .map_or(program.to_string(), |name| name.to_string_lossy().into_owned());
    let name =
        arguments.name.clone().unwrap_or_else(|| base.chars().take(limits::NAME_BYTES_MAX / 4).collect());
    let indices = match &arguments.array {
        Some(text) => quantities::index_range(text, limits::TASKS_PER_JOB_MAX)
            .map_err(|error| input(error.to_string()))?,
        None => quantities::IndexRange { first: 0, step: 1, tasks: 1 },
    };
    let mut variables = Vec::with_capacity(arguments.env.len());
    for variable in &arguments.env {
        let pair = variable.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = pair.ok_or_else(|| input(format!("{variable:?} is not NAME=VALUE")))?;
        variables.push((name.to_string(), value.to_string()));
    }
    let request = Resources {
        cpu_milli: arguments.cpus,
        memory_mib: arguments.mem.unwrap_or(0),
        gpus: arguments.gpus,
        counters: Default::default(),
    };
    let cwd = working_directory(arguments)?;
    let stage = StageSpec {
        name: "run".to_string(),
        needs: Vec::new(),
        tasks: indices.tasks,
        array_first: indices.first,
        array_step: indices.step,
        work: Work::Process(ProcessWork { argv: arguments.command.clone(), env: variables, cwd }),
        request,
        gang: false,
        open: false,
        kind: TaskKind::Batch,
        retry: RetryPolicy { retries: arguments.retries, ..RetryPolicy::default() },
        timeout_ms: arguments.timeout.unwrap_or(0),
        grace_ms: limits::KILL_GRACE_MS_DEFAULT,
        on_partition: OnPartition::Stop,
    };
    Ok(JobSpec { name, priority: arguments.priority, params: String::new(), stages: vec![stage] })
}

/// The command's working directory: on this machine, the user's; elsewhere that directory may not exist.
fn working_directory(arguments: &RunArgs) -> Result<String, CliError> {
    let here = || env::current_dir().context("find the current directory");
    let cwd = match &arguments.cwd {
        Some(cwd) => here()?.join(cwd),
        None if is_local(&arguments.server.url) => here()?,
        None => return Ok(String::new()),
    };
    match cwd.to_str() {
        Some(cwd) => Ok(cwd.to_string()),
        None => Err(CliError::Input(format!(
            "{} is not UTF-8, and cannot be a job's working directory",
            cwd.display()
        ))),
    }
}

fn is_local(urls: &str) -> bool {
    let host = |url: &str| {
        let address = url.trim().trim_start_matches("http://");
        ["127.", "localhost", "[::1]"].iter().any(|local| address.starts_with(local))
    };
    urls.split(',').all(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses() {
        let table = [
            ("http://127.0.0.1:7401", true),
            ("localhost:1", true),
            ("http://[::1]:1", true),
            ("http://10.0.0.1:7401", false),
            ("http://127.0.0.1:1,http://10.0.0.1:1", false),
        ];
        for (urls, expected) in table {
            assert_eq!(is_local(urls), expected, "{urls}");
        }
    }
}
