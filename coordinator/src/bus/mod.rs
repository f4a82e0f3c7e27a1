//! The bus to the workers: NATS, as transport only. The only place in the coordinator that names its client.
//!
//! Whatever matters is said again until it is acknowledged, so a message that finds no connection or no room
//! is dropped and counted. The broker may be absent, at the start too: the coordinator serves without it, and
//! says so.

mod health;
#[cfg(test)]
mod tests;
mod uplink;

use crate::process::Inlet;
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, ServerAddr};
use health::Health;
use muster_protocol::bus::DownEnvelope;
use muster_protocol::ids::{BootId, WorkerIdentity};
use muster_protocol::limits::BUS_MESSAGE_BYTES_MAX;
use muster_protocol::{codec, subjects};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Messages to workers that wait for the client; what finds no room is dropped.
const DOWN_MAX: usize = 4096;
/// Messages that wait in the client itself.
const CLIENT_MAX: usize = 4096;
/// Messages of workers that wait in the client; the next ones are dropped, and it is said that this is a slow
/// consumer.
const UP_MAX: usize = 16 * 1024;
/// A broker that is there answers sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two tries; more after each, up to the last.
const RETRY_STEP: Duration = Duration::from_millis(50);
/// See [`RETRY_STEP`].
const RETRY_STEPS_MAX: u32 = 10;
/// A broker that does not answer two of these is gone.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// Why there can be no bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address of the broker.
    #[error("use {address:?} as the broker's address: {why}; it is written nats://host:port")]
    Address {
        /// As configured.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// The client did not start.
    #[error("start the client of the broker at {address}: {why}")]
    Client {
        /// As configured.
        address: String,
        /// What it said.
        why: String,
    },
}

/// Where the replica leaves what goes to workers.
pub struct Downlink {
    queue: mpsc::Sender<(String, Vec<u8>)>,
    cluster: String,
    health: Arc<Health>,
}

impl Downlink {
    /// Sends to one life of one worker, or drops it: it never waits.
    pub fn send(&self, identity: WorkerIdentity, boot: BootId, envelope: &DownEnvelope) {
        let bytes = codec::seal(envelope);
        if bytes.len() > BUS_MESSAGE_BYTES_MAX {
            tracing::error!(
                bytes = bytes.len(),
                message = envelope.message.name(),
                "a message to a worker is too large for the bus"
            );
            self.health.dropped();
        } else if self.queue.try_send((subjects::down(&self.cluster, identity, boot), bytes)).is_err() {
            self.health.dropped();
        }
    }
}

/// What can be said of the bus.
#[derive(Clone)]
pub struct Bus {
    health: Arc<Health>,
}

impl Bus {
    /// `connected`, or what is wrong.
    pub fn words(&self) -> String {
        self.health.words()
    }

    /// Counters since the start, by name.
    pub fn counters(&self) -> [(&'static str, u64); 5] {
        self.health.counters()
    }
}

/// A bus that is not started yet.
pub struct Ends {
    addresses: Vec<ServerAddr>,
    configured: String,
    cluster: String,
    name: String,
    queue: mpsc::Receiver<(String, Vec<u8>)>,
    health: Arc<Health>,
}

/// Checks the broker's address, and gives the ends of a bus to be.
pub fn prepare(cluster: &str, name: &str, address: &str) -> Result<(Downlink, Bus, Ends), BusError> {
    let parse = |one: &str| {
        ServerAddr::from_str(one.trim())
            .map_err(|error| BusError::Address { address: address.to_string(), why: error.to_string() })
    };
    let addresses = address.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
    let health = Arc::new(Health::new(address));
    let (sender, queue) = mpsc::channel(DOWN_MAX);
    let downlink = Downlink { queue: sender, cluster: cluster.to_string(), health: Arc::clone(&health) };
    let bus = Bus { health: Arc::clone(&health) };
    let ends = Ends {
        addresses,
        configured: address.to_string(),
        cluster: cluster.to_string(),
        name: name.to_string(),
        queue,
        health,
    };
    Ok((downlink, bus, ends))
}

impl Ends {
    /// Connects, or tries on in the background; the tasks end with the set.
    pub async fn start(self, inlet: Inlet, tasks: &mut JoinSet<()>) -> Result<(), BusError> {
        let health = Arc::clone(&self.health);
        let options = ConnectOptions::new()
            .name(format!("muster/{}/{}", self.cluster, self.name))
            .retry_on_initial_connect()
            .max_reconnects(None)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(UP_MAX)
            .client_capacity(CLIENT_MAX)
            .reconnect_delay_callback(|tries| {
                RETRY_STEP * u32::try_from(tries).unwrap_or(u32::MAX).clamp(1, RETRY_STEPS_MAX)
            })
            .event_callback(move |event| {
                health.event(&event);
                std::future::ready(())
            });
        let client = options
            .connect(self.addresses)
            .await
            .map_err(|error| BusError::Client { address: self.configured, why: error.to_string() })?;
        tasks.spawn(uplink::listen(client.clone(), self.cluster, inlet, Arc::clone(&self.health)));
        tasks.spawn(publish(client, self.queue, self.health));
        Ok(())
    }
}

async fn publish(client: Client, mut queue: mpsc::Receiver<(String, Vec<u8>)>, health: Arc<Health>) {
    while let Some((subject, bytes)) = queue.recv().await {
        // Without a connection it would wait, and reach its worker as old news.
        if client.connection_state() != State::Connected {
            health.dropped();
            continue;
        }
        match client.publish(subject, bytes.into()).await {
            Ok(()) => health.sent(),
            Err(error) => {
                health.dropped();
                tracing::warn!(%error, "a message to a worker was not published");
            }
        }
    }
}
