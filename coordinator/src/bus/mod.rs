//! The bus to the workers: NATS, as transport only. No other module of the coordinator may name its client.
//!
//! Messages that matter are resent until they are acknowledged, so one that finds no connection or no room is
//! dropped and counted. The broker may be absent, even at the start: the coordinator serves without it and
//! reports that.

mod health;
#[cfg(test)]
mod tests;
mod uplink;

use crate::handle::ReplicaHandle;
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, ServerAddr};
use health::ConnectionHealth;
use muster_protocol::bus::DownEnvelope;
use muster_protocol::ids::{BootId, WorkerIdentity};
use muster_protocol::limits::BUS_MESSAGE_BYTES_MAX;
use muster_protocol::{codec, subjects};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Messages to workers queued for the client; more are dropped.
const DOWN_MAX: usize = 4096;
/// Messages queued in the client itself.
const CLIENT_MAX: usize = 4096;
/// Messages from workers queued in the client. More are dropped, and the client reports a slow consumer.
const UP_MAX: usize = 16 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause before the second try to connect; it grows by this much with each further one.
const RETRY_STEP: Duration = Duration::from_millis(50);
const RETRY_STEPS_MAX: u32 = 10;
/// The client gives a connection up after two unanswered pings.
const PING_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("use {address:?} as the broker's address: {why}; the format is nats://host:port")]
    Address { address: String, why: String },
    #[error("start the client of the broker at {address}: {why}")]
    Client { address: String, why: String },
}

/// Sends the replica's messages to workers.
pub struct Downlink {
    queue: mpsc::Sender<(String, Vec<u8>)>,
    cluster: String,
    health: Arc<ConnectionHealth>,
}

impl Downlink {
    /// Sends a message or drops it; it never waits.
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

/// The state of the connection, for the status page.
#[derive(Clone)]
pub struct BusStatus {
    health: Arc<ConnectionHealth>,
}

impl BusStatus {
    /// `connected`, or what is wrong.
    pub fn describe(&self) -> String {
        self.health.describe()
    }

    /// Counters since the start, by name.
    pub fn counters(&self) -> [(&'static str, u64); 5] {
        self.health.counters()
    }
}

/// A bus that is not started.
pub struct BusDriver {
    addresses: Vec<ServerAddr>,
    configured: String,
    cluster: String,
    name: String,
    queue: mpsc::Receiver<(String, Vec<u8>)>,
    health: Arc<ConnectionHealth>,
}

/// Checks the broker's addresses, and makes the parts of a bus.
pub fn prepare(
    cluster: &str,
    name: &str,
    address: &str,
) -> Result<(Downlink, BusStatus, BusDriver), BusError> {
    let parse = |one: &str| {
        ServerAddr::from_str(one.trim())
            .map_err(|error| BusError::Address { address: address.to_string(), why: error.to_string() })
    };
    let addresses = address.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
    let health = Arc::new(ConnectionHealth::new(address));
    let (sender, queue) = mpsc::channel(DOWN_MAX);
    let downlink = Downlink { queue: sender, cluster: cluster.to_string(), health: Arc::clone(&health) };
    let bus = BusStatus { health: Arc::clone(&health) };
    let driver = BusDriver {
        addresses,
        configured: address.to_string(),
        cluster: cluster.to_string(),
        name: name.to_string(),
        queue,
        health,
    };
    Ok((downlink, bus, driver))
}

impl BusDriver {
    /// Connects, or keeps trying in the background. The tasks end with the set.
    pub async fn start(self, replica: ReplicaHandle, tasks: &mut JoinSet<()>) -> Result<(), BusError> {
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
        tasks.spawn(uplink::listen(client.clone(), self.cluster, replica, Arc::clone(&self.health)));
        tasks.spawn(publish(client, self.queue, self.health));
        Ok(())
    }
}

async fn publish(
    client: Client,
    mut queue: mpsc::Receiver<(String, Vec<u8>)>,
    health: Arc<ConnectionHealth>,
) {
    while let Some((subject, bytes)) = queue.recv().await {
        // Without a connection it would wait, and arrive too late to be of use.
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
