//! The worker's end of the bus: says what the agent says, and brings what the leader says. The only place
//! here that names async-nats.
//!
//! **Invariant**: it never makes its caller wait. What cannot be said is dropped and counted: the agent says
//! it again, and old news from a queue would be worth less than none. Only chunks of tails wait for room, in
//! a queue of their own.

use crate::agent::Input;
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

/// Messages that wait to be said at most.
const SAY_QUEUE: usize = 1_024;
/// Chunks of tails that wait at most.
const CHUNK_QUEUE: usize = 16;
/// Messages from the leader that wait in the client at most; beyond it they are dropped, and the agent counts
/// a gap.
const HEAR_QUEUE: usize = 8_192;
/// How often the broker is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Between two attempts to reach the broker at most.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Between two log lines about the same problem.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Why there is no bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address is not one.
    #[error("understand the broker's address {url}: {why}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The client would not subscribe.
    #[error("listen on the bus: {0}")]
    Subscribe(String),
}

/// Who speaks.
#[derive(Clone, Debug)]
pub(crate) struct Speaker {
    pub(crate) cluster: String,
    pub(crate) identity: WorkerIdentity,
    pub(crate) boot: BootId,
}

/// The worker's end of the bus.
#[derive(Debug)]
pub(crate) struct Bus {
    say: mpsc::Sender<Up>,
    chunks: mpsc::Sender<LogChunk>,
    counts: Arc<Counts>,
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) malformed: AtomicU64,
}

impl Bus {
    /// Starts to reach the broker, and goes on for ever; what is heard goes to `inputs`.
    pub(crate) async fn start(
        url: &str,
        speaker: Speaker,
        inputs: mpsc::Sender<Input>,
    ) -> Result<Bus, BusError> {
        let events = Arc::new(Events {
            inputs: inputs.clone(),
            url: url.to_string(),
            unreachable: LogThrottle::new(1, LOG_INTERVAL),
            slow: LogThrottle::new(1, LOG_INTERVAL),
        });
        let options = ConnectOptions::new()
            .name(format!("muster worker {}", speaker.identity))
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(HEAR_QUEUE)
            .reconnect_delay_callback(|attempt| {
                RECONNECT_PAUSE_MAX.min(Duration::from_millis(20 << attempt.min(10)))
            })
            .event_callback(move |event| {
                let events = events.clone();
                async move { events.note(event).await }
            });
        let client = options
            .connect(url)
            .await
            .map_err(|error| BusError::Address { url: url.to_string(), why: error.to_string() })?;
        let subject = subjects::down(&speaker.cluster, speaker.identity, speaker.boot);
        let heard =
            client.subscribe(subject).await.map_err(|error| BusError::Subscribe(error.to_string()))?;
        let counts = Arc::new(Counts::default());
        let (say, to_say) = mpsc::channel(SAY_QUEUE);
        let (chunks, chunks_to_say) = mpsc::channel(CHUNK_QUEUE);
        tokio::spawn(hear(heard, inputs, counts.clone()));
        tokio::spawn(
            Mouth {
                client,
                subject: subjects::up(&speaker.cluster, speaker.identity),
                speaker,
                counts: counts.clone(),
            }
            .say(to_say, chunks_to_say),
        );
        Ok(Bus { say, chunks, counts })
    }

    /// Says it, or drops it if the bus is slower than the agent.
    pub(crate) fn say(&self, up: Up) {
        if self.say.try_send(up).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where tails put their chunks; they wait there for room.
    pub(crate) fn chunks(&self) -> mpsc::Sender<LogChunk> {
        self.chunks.clone()
    }

    /// What was counted.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Brings what the leader says, until the client is closed.
async fn hear(mut heard: Subscriber, inputs: mpsc::Sender<Input>, counts: Arc<Counts>) {
    let throttle = LogThrottle::new(1, LOG_INTERVAL);
    while let Some(message) = heard.next().await {
        match codec::open::<DownEnvelope>(&message.payload, BUS_MESSAGE_BYTES_MAX) {
            Ok(envelope) => {
                counts.received.fetch_add(1, Ordering::Relaxed);
                if inputs.send(Input::Down(Box::new(envelope))).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                counts.malformed.fetch_add(1, Ordering::Relaxed);
                if let Some(left_out) = throttle.admit() {
                    tracing::warn!(%error, bytes = message.payload.len(), left_out, "dropped a message on the bus that is not one of the leader's");
                }
            }
        }
    }
}

/// Says what is to be said.
struct Mouth {
    client: Client,
    subject: String,
    speaker: Speaker,
    counts: Arc<Counts>,
}

impl Mouth {
    async fn say(self, mut to_say: mpsc::Receiver<Up>, mut chunks: mpsc::Receiver<LogChunk>) {
        loop {
            // What keeps the lease goes first.
            let up = tokio::select! {
                biased;
                up = to_say.recv() => up,
                chunk = chunks.recv() => chunk.map(Up::LogChunk),
            };
            let Some(message) = up else { return };
            self.publish(message).await;
        }
    }

    async fn publish(&self, message: Up) {
        let name = message.name();
        let Speaker { cluster, identity, boot } = self.speaker.clone();
        let bytes = codec::seal(&UpEnvelope { cluster, identity, boot, trace: String::new(), message });
        let fits = bytes.len() <= BUS_MESSAGE_BYTES_MAX;
        if !fits {
            tracing::error!(
                message = name,
                bytes = bytes.len(),
                "a message is too large for the bus: this is a bug"
            );
        }
        let there = self.client.connection_state() == State::Connected;
        if fits && there && self.client.publish(self.subject.clone(), Bytes::from(bytes)).await.is_ok() {
            self.counts.sent.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the client tells of the broker.
struct Events {
    inputs: mpsc::Sender<Input>,
    url: String,
    unreachable: LogThrottle,
    slow: LogThrottle,
}

impl Events {
    async fn note(&self, event: Event) {
        let url = &self.url;
        match event {
            Event::Connected => {
                self.unreachable.reset();
                tracing::info!(%url, "reached the broker");
                // The agent is gone only when the program ends.
                let _ = self.inputs.send(Input::Reconnected).await;
            }
            Event::Disconnected | Event::Closed => {
                tracing::warn!(%url, "lost the broker; trying to reach it")
            }
            Event::SlowConsumer(_) => {
                if let Some(left_out) = self.slow.admit() {
                    tracing::warn!(
                        left_out,
                        "messages come faster than they are taken; some are lost, and will be said again"
                    );
                }
            }
            Event::LameDuckMode | Event::Draining => tracing::info!(%url, "the broker is about to end"),
            Event::ServerError(error) => self.trouble(&error.to_string()),
            Event::ClientError(error) => self.trouble(&error.to_string()),
        }
    }

    fn trouble(&self, why: &str) {
        if let Some(left_out) = self.unreachable.admit() {
            tracing::warn!(url = %self.url, why, left_out, "cannot reach the broker; trying on");
        }
    }
}
