//! The server verbs: each turns its flags into a configuration and calls another crate's `run`. No other file
//! of this crate names those entry points.

use crate::args::{BrokerArgs, CoordinatorArgs, WorkerArgs};
use crate::error::CliError;
use crate::{broker, logging};
use anyhow::{Context, anyhow};
use muster_coordinator::store::StoreError;
use muster_coordinator::{Config, RunError};
use muster_worker::WorkerConfig;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Returns at SIGTERM or SIGINT.
pub async fn shutdown_signal() -> anyhow::Result<()> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        signal(SignalKind::interrupt()).context("listen for SIGINT")?,
    );
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

async fn wait_for_shutdown() {
    if let Err(error) = shutdown_signal().await {
        tracing::warn!("cannot listen for signals, so this process will not shut down cleanly: {error:#}");
        std::future::pending::<()>().await;
    }
}

pub async fn coordinator(arguments: CoordinatorArgs) -> Result<(), CliError> {
    logging::start(arguments.log_format);
    let members = muster_coordinator::members(&arguments.members)
        .map_err(|error| CliError::Input(format!("cannot {error}")))?;
    let config = Config {
        name: arguments.name,
        cluster: arguments.cluster,
        data: arguments.data,
        http: arguments.http,
        peer: arguments.peer,
        members,
        nats: arguments.nats,
    };
    config.validate().map_err(|error| CliError::Input(format!("cannot {error}")))?;
    muster_coordinator::run(config, wait_for_shutdown()).await.map_err(|error| {
        // Some messages complete "cannot ..", others are sentences.
        match &error {
            RunError::Config(_) => CliError::Input(format!("cannot {error}")),
            // Another cluster's directory, or one in use. The user must name another one; nothing was
            // changed.
            RunError::Store(store) if !matches!(store, StoreError::Disk(_)) => {
                CliError::Input(error.to_string())
            }
            RunError::Store(_)
            | RunError::Disk(_)
            | RunError::Replica(_)
            | RunError::Bus(_)
            | RunError::Listen { .. }
            | RunError::Serve(_)
            | RunError::Halted { .. }
            | RunError::Thread(_)
            | RunError::Panicked => CliError::Other(anyhow!("the coordinator has ended: {error}")),
        }
    })
}

pub async fn worker(arguments: WorkerArgs) -> Result<(), CliError> {
    logging::start(arguments.log_format);
    let mut config = WorkerConfig::new(arguments.cluster, arguments.data, arguments.nats);
    config.name = arguments.name;
    config.address = arguments.address;
    config.cpus = arguments.cpus;
    config.memory_mib = arguments.memory;
    config.counters = arguments.counter.into_iter().collect();
    config.labels = arguments.label.into_iter().collect();
    config.artifacts = arguments.artifacts.unwrap_or(config.artifacts);
    config.drain_ms = arguments.drain.unwrap_or(config.drain_ms);
    config.rendezvous_port_first = arguments.rendezvous_port.unwrap_or(config.rendezvous_port_first);
    config.rendezvous_ports = arguments.rendezvous_ports.unwrap_or(config.rendezvous_ports);
    muster_worker::run(config, wait_for_shutdown())
        .await
        .map_err(|error| CliError::Other(anyhow!("the worker has ended: {error}")))
}

/// Runs the embedded broker on its own.
pub async fn broker(arguments: BrokerArgs) -> Result<(), CliError> {
    let input = |error: broker::Error| match error {
        broker::Error::NotLoopback { .. } => CliError::Input(format!("cannot {error}")),
        broker::Error::Listen(_) => CliError::Other(anyhow!("cannot {error}")),
    };
    let listener = broker::bind(arguments.listen).await.map_err(input)?;
    tokio::select! {
        ended = broker::serve(listener) => ended.map_err(input),
        signal = shutdown_signal() => Ok(signal?),
    }
}

/// Runs a built-in executor; the agent starts this process.
pub fn executor(name: &str) -> ExitCode {
    muster_executors::main(name)
}
