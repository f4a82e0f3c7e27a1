//! `muster up`: a cluster on this machine until Ctrl-C.

use super::cluster::{Cluster, ClusterConfig};
use crate::args::UpArgs;
use crate::client::Client;
use crate::error::CliError;
use crate::render;
use crate::render::style::Style;
use crate::servers;
use anyhow::{Context, anyhow};
use std::time::{Duration, Instant};

/// How long the cluster may take to get a leader and its workers.
const START_MS_MAX: u64 = 60_000;
const POLL_INTERVAL_MS: u64 = 200;
/// How long to wait before restarting a child that exited.
const RESTART_MS: u64 = 1_000;
/// After this many restarts, something is wrong with the cluster.
const RESTARTS_MAX: u32 = 20;

pub async fn up(arguments: UpArgs) -> Result<(), CliError> {
    if arguments.coordinators == 2 {
        return Err(CliError::Input("two coordinators survive no failure: run one, or three".to_string()));
    }
    let config = ClusterConfig {
        name: "local",
        coordinators: usize::from(arguments.coordinators),
        workers: usize::from(arguments.workers),
        cpus: None,
        port: Some(arguments.port),
    };
    let mut cluster = Cluster::start(config, &arguments.data).await?;
    let signal = servers::shutdown_signal();
    tokio::pin!(signal);
    let ended = tokio::select! {
        ended = keep(&mut cluster, &arguments) => ended,
        signal = &mut signal => signal.map_err(CliError::from),
    };
    render::note("stopping the cluster; its directory is kept");
    cluster.end().await;
    ended
}

async fn keep(cluster: &mut Cluster, arguments: &UpArgs) -> Result<(), CliError> {
    for index in 0..usize::from(arguments.workers) {
        cluster.start_worker(index)?;
    }
    await_start(cluster, usize::from(arguments.workers)).await?;
    print_summary(cluster, arguments)?;
    let mut restarts = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
        let Some(exited) = cluster.unexpected_exit() else { continue };
        restarts += 1;
        if restarts > RESTARTS_MAX || !cluster.bus.is_running() {
            return Err(CliError::Other(anyhow!("{exited}")));
        }
        render::note(&format!("{}; restarting it", exited.lines().next().unwrap_or_default()));
        tokio::time::sleep(Duration::from_millis(RESTART_MS)).await;
        restart(cluster)?;
    }
}

/// Restarts every child that has exited.
fn restart(cluster: &mut Cluster) -> Result<(), CliError> {
    for index in 0..cluster.coordinators.len() {
        if cluster.coordinators[index].as_mut().is_some_and(|child| child.exit().is_some()) {
            cluster.start_coordinator(index)?;
        }
    }
    for index in 0..cluster.workers.len() {
        if cluster.workers[index].as_mut().is_some_and(|child| child.exit().is_some()) {
            cluster.start_worker(index)?;
        }
    }
    Ok(())
}

async fn await_start(cluster: &mut Cluster, workers: usize) -> Result<(), CliError> {
    let client = Client::new(&cluster.urls(), Duration::from_millis(POLL_INTERVAL_MS))?;
    let began = Instant::now();
    loop {
        if let Some(exited) = cluster.unexpected_exit() {
            return Err(CliError::Other(anyhow!("{exited}").context("start the cluster")));
        }
        let found = client.workers().await;
        if let Ok(found) = &found
            && found.iter().filter(|worker| worker.liveness.word() == "alive").count() >= workers
        {
            return Ok(());
        }
        if began.elapsed() > Duration::from_millis(START_MS_MAX) {
            let last =
                found.err().map_or("its workers have not registered".to_string(), |error| error.to_string());
            return Err(CliError::Other(
                anyhow!(last)
                    .context(format!("start the cluster; its logs are in {}", cluster.directory().display())),
            ));
        }
        tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
    }
}

fn print_summary(cluster: &Cluster, arguments: &UpArgs) -> Result<(), CliError> {
    let style = Style::of_stdout();
    let count =
        |number: u8, what: &str| if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") };
    let urls = cluster.urls();
    let first = urls.split(',').next().context("find the first coordinator")?;
    let mut text = format!("{}\n", style.success("the cluster is up"));
    let what = format!(
        "{} and {}",
        count(arguments.coordinators, "coordinator"),
        count(arguments.workers, "worker")
    );
    text.push_str(&format!("  runs      {what}, with {}\n", cluster.bus.name()));
    text.push_str(&format!("  data      {}\n", cluster.directory().display()));
    text.push_str(&format!("  url       {}\n", style.bold(&urls)));
    if urls != crate::client::URL_DEFAULT {
        text.push_str(&format!("  use it    export MUSTER_URL={urls}\n"));
    }
    text.push_str(&format!("  or        curl {first}/v1/status\n"));
    text.push_str("Ctrl-C stops it.\n");
    render::out(&text)
}
