//! The worker's end of the bus: publishes the agent's messages and receives the leader's. The only file of
//! this crate that names async-nats.
//!
//! **Invariant**: it never makes its caller wait. A message that cannot be published now is dropped and
//! counted, and the agent sends a newer one. Only chunks of tails wait, in a queue of their own.

use crate::machine::AgentInput;
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use muster_host::log_throttle::LogThrottle;
use muster_protocol::bus::{DownEnvelope, LogChunk, Up, UpEnvelope};
use muster_protocol::ids::{BootId, WorkerIdentity};
use muster_protocol::limits::BUS_MESSAGE_BYTES_MAX;
use muster_protocol::{codec, subjects};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// At most this many messages wait to be published.
const SEND_QUEUE: usize = 1_024;
/// At most this many chunks of tails wait.
const CHUNK_QUEUE: usize = 16;
/// At most this many messages from the leader wait in the client; more are dropped, and the agent counts a
/// gap.
const RECEIVE_QUEUE: usize = 8_192;
const PING_INTERVAL: Duration = Duration::from_secs(2);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Between two log lines about the same problem.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("the broker's address {url} is not valid: {why}")]
    Address { url: String, why: String },
    #[error("cannot subscribe to the bus: {0}")]
    Subscribe(String),
}

/// Goes into the envelope of every message.
#[derive(Clone, Debug)]
pub(crate) struct BusIdentity {
    pub(crate) cluster: String,
    pub(crate) worker: WorkerIdentity,
    pub(crate) boot: BootId,
}

#[derive(Debug)]
pub(crate) struct Bus {
    messages: mpsc::Sender<Up>,
    chunks: mpsc::Sender<LogChunk>,
    counters: Arc<BusCounters>,
}

#[derive(Debug, Default)]
pub(crate) struct BusCounters {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) malformed: AtomicU64,
}

impl Bus {
    /// Connects to the broker, and again whenever the connection is lost. What the leader sends goes to
    /// `inputs`.
    pub(crate) async fn start(
        url: &str,
        identity: BusIdentity,
        inputs: mpsc::Sender<AgentInput>,
    ) -> Result<Bus, BusError> {
        let events = Arc::new(ConnectionEvents {
            inputs: inputs.clone(),
            url: url.to_string(),
            unreachable: LogThrottle::new(1, LOG_INTERVAL),
            slow: LogThrottle::new(1, LOG_INTERVAL),
        });
        let options = ConnectOptions::new()
            .name(format!("muster worker {}", identity.worker))
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(RECEIVE_QUEUE)
            .reconnect_delay_callback(|attempt| {
                RECONNECT_PAUSE_MAX.min(Duration::from_millis(20 << attempt.min(10)))
            })
            .event_callback(move |event| {
                let events = events.clone();
                async move { events.handle(event).await }
            });
        let client = options
            .connect(url)
            .await
            .map_err(|error| BusError::Address { url: url.to_string(), why: error.to_string() })?;
        let subject = subjects::down(&identity.cluster, identity.worker, identity.boot);
        let subscriber =
            client.subscribe(subject).await.map_err(|error| BusError::Subscribe(error.to_string()))?;
        let counters = Arc::new(BusCounters::default());
        let (messages, queued_messages) = mpsc::channel(SEND_QUEUE);
        let (chunks, queued_chunks) = mpsc::channel(CHUNK_QUEUE);
        tokio::spawn(receive(subscriber, inputs, counters.clone()));
        let subject = subjects::up(&identity.cluster, identity.worker);
        let publisher = Publisher { client, subject, identity, counters: counters.clone() };
        tokio::spawn(publisher.run(queued_messages, queued_chunks));
        Ok(Bus { messages, chunks, counters })
    }

    /// Publishes the message, or drops it if the bus is slower than the agent.
    pub(crate) fn send(&self, up: Up) {
        if self.messages.try_send(up).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where tails put their chunks.
    pub(crate) fn chunks(&self) -> mpsc::Sender<LogChunk> {
        self.chunks.clone()
    }

    pub(crate) fn counters(&self) -> &BusCounters {
        &self.counters
    }
}

/// Passes on the leader's messages until the client is closed.
async fn receive(mut subscriber: Subscriber, inputs: mpsc::Sender<AgentInput>, counters: Arc<BusCounters>) {
    let throttle = LogThrottle::new(1, LOG_INTERVAL);
    while let Some(message) = subscriber.next().await {
        match codec::open::<DownEnvelope>(&message.payload, BUS_MESSAGE_BYTES_MAX) {
            Ok(envelope) => {
                counters.received.fetch_add(1, Ordering::Relaxed);
                if inputs.send(AgentInput::Down(Box::new(envelope))).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                counters.malformed.fetch_add(1, Ordering::Relaxed);
                if let Some(withheld) = throttle.admit() {
                    tracing::warn!(%error, bytes = message.payload.len(), withheld, "dropped a malformed message from the bus");
                }
            }
        }
    }
}

struct Publisher {
    client: Client,
    subject: String,
    identity: BusIdentity,
    counters: Arc<BusCounters>,
}

impl Publisher {
    async fn run(self, mut messages: mpsc::Receiver<Up>, mut chunks: mpsc::Receiver<LogChunk>) {
        loop {
            // Heartbeats, which keep the lease, must not wait for chunks.
            let up = tokio::select! {
                biased;
                up = messages.recv() => up,
                chunk = chunks.recv() => chunk.map(Up::LogChunk),
            };
            let Some(message) = up else { return };
            self.publish(message).await;
        }
    }

    async fn publish(&self, message: Up) {
        let name = message.name();
        let BusIdentity { cluster, worker: identity, boot } = self.identity.clone();
        let bytes = codec::seal(&UpEnvelope { cluster, identity, boot, trace: String::new(), message });
        let fits = bytes.len() <= BUS_MESSAGE_BYTES_MAX;
        if !fits {
            tracing::error!(
                message = name,
                bytes = bytes.len(),
                "a message is too large for the bus: this is a bug"
            );
        }
        let connected = self.client.connection_state() == State::Connected;
        if fits && connected && self.client.publish(self.subject.clone(), Bytes::from(bytes)).await.is_ok() {
            self.counters.sent.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Logs what happens to the connection.
struct ConnectionEvents {
    inputs: mpsc::Sender<AgentInput>,
    url: String,
    unreachable: LogThrottle,
    slow: LogThrottle,
}

impl ConnectionEvents {
    async fn handle(&self, event: Event) {
        let url = &self.url;
        match event {
            Event::Connected => {
                self.unreachable.reset();
                tracing::info!(%url, "connected to the broker");
                // The agent is gone only when the program ends.
                let _ = self.inputs.send(AgentInput::Reconnected).await;
            }
            Event::Disconnected | Event::Closed => {
                tracing::warn!(%url, "lost the broker; reconnecting")
            }
            Event::SlowConsumer(_) => {
                if let Some(withheld) = self.slow.admit() {
                    tracing::warn!(
                        withheld,
                        "messages arrive faster than this worker takes them; some are lost and will be sent again"
                    );
                }
            }
            Event::LameDuckMode | Event::Draining => tracing::info!(%url, "the broker is shutting down"),
            Event::ServerError(error) => self.log_unreachable(&error.to_string()),
            Event::ClientError(error) => self.log_unreachable(&error.to_string()),
        }
    }

    fn log_unreachable(&self, why: &str) {
        if let Some(withheld) = self.unreachable.admit() {
            tracing::warn!(url = %self.url, why, withheld, "cannot reach the broker; retrying");
        }
    }
}
