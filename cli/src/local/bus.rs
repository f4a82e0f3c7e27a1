//! The bus of a local cluster: `nats-server` if it is on the PATH, otherwise the embedded broker in this
//! process.

use super::child::Child;
use crate::broker;
use anyhow::{Context, Result, anyhow};
use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const START_MS_MAX: u64 = 10_000;
const POLL_INTERVAL_MS: u64 = 20;

/// A running broker; it ends when this value is dropped.
pub struct Bus {
    kind: Kind,
    port: u16,
}

enum Kind {
    NatsServer(Child),
    Embedded(JoinHandle<()>),
}

impl Bus {
    /// Starts a broker on loopback and waits until it accepts clients.
    pub async fn start(port: u16, directory: &Path) -> Result<Bus> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let Some(program) = on_path("nats-server") else {
            let listener = broker::bind(address).await.map_err(|error| anyhow!("cannot {error}"))?;
            let served = tokio::spawn(async move {
                if let Err(error) = broker::serve(listener).await {
                    tracing::error!("the embedded broker stopped: cannot {error}");
                }
            });
            return Ok(Bus { kind: Kind::Embedded(served), port });
        };
        let arguments = ["--addr", "127.0.0.1", "--port", &port.to_string()].map(str::to_string);
        let mut child =
            Child::start("nats-server", &program, &arguments, &directory.join("nats-server.log"))?;
        let began = Instant::now();
        while let Err(error) = TcpStream::connect(address).await {
            if child.exit().is_some() || began.elapsed() > Duration::from_millis(START_MS_MAX) {
                return Err(anyhow!("{error}; its last output: {}", child.log_tail()))
                    .context("start nats-server");
            }
            tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
        }
        Ok(Bus { kind: Kind::NatsServer(child), port })
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::NatsServer(_) => "nats-server",
            Kind::Embedded(_) => "the embedded broker",
        }
    }

    pub fn is_running(&mut self) -> bool {
        match &mut self.kind {
            Kind::NatsServer(child) => child.exit().is_none(),
            Kind::Embedded(served) => !served.is_finished(),
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        if let Kind::Embedded(served) = &self.kind {
            served.abort();
        }
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}
