//! Outgoing connections: one to each other member, reconnected as soon as it breaks.

use super::frame;
use super::handshake::PeerIdentity;
use muster_protocol::ids::RaftId;
use muster_replica::PeerMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Messages queued for one connection; more are dropped.
const MESSAGES_MAX: usize = 1024;
/// Bytes queued for one connection; more are dropped.
const BYTES_MAX: u64 = 64 << 20;
/// Messages are written together up to this size.
const WRITE_BYTES: usize = 256 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// The pause between tries. It does not grow, since a member that comes back is needed at once.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// A member sends keepalives twice a second; after this much silence its machine is gone.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// The queue to one member's connection.
struct PeerQueue {
    messages: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

/// Shared with the task of the connection.
#[derive(Default)]
struct Shared {
    connected: AtomicBool,
    waiting_bytes: AtomicU64,
    unreachable: AtomicBool,
}

/// Sends messages to all other members.
pub struct PeerSender {
    queues: BTreeMap<RaftId, PeerQueue>,
    sent: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
}

impl PeerSender {
    /// Sends a message or drops it; it never waits.
    pub fn send(&self, to: RaftId, message: &PeerMessage) {
        let Some(queue) = self.queues.get(&to) else { return };
        if self.try_send(queue, message).is_some() {
            self.sent.fetch_add(1, Ordering::Relaxed);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            queue.shared.unreachable.store(true, Ordering::Relaxed);
        }
    }

    fn try_send(&self, queue: &PeerQueue, message: &PeerMessage) -> Option<()> {
        if !queue.shared.connected.load(Ordering::Acquire) {
            return None;
        }
        let bytes = frame::to_bytes(message)?;
        let size = bytes.len() as u64;
        if queue.shared.waiting_bytes.load(Ordering::Relaxed) + size > BYTES_MAX {
            return None;
        }
        queue.shared.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        let queued = queue.messages.try_send(bytes);
        if queued.is_err() {
            queue.shared.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
        }
        queued.ok()
    }

    /// Members since the last call for whom a message was dropped or whose connection broke.
    pub fn take_unreachable(&self) -> impl Iterator<Item = RaftId> {
        self.queues
            .iter()
            .filter(|(_, queue)| queue.shared.unreachable.swap(false, Ordering::Relaxed))
            .map(|(to, _)| *to)
    }

    /// Counters of messages: sent, dropped.
    pub fn counters(&self) -> (Arc<AtomicU64>, Arc<AtomicU64>) {
        (Arc::clone(&self.sent), Arc::clone(&self.dropped))
    }
}

/// Starts a task for each other member; they end with the set.
pub fn connect(identity: &PeerIdentity, tasks: &mut JoinSet<()>) -> PeerSender {
    let mut queues = BTreeMap::new();
    for member in identity.members.iter().filter(|member| member.raft_id != identity.me.raft_id) {
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let shared = Arc::new(Shared::default());
        let connector = Connector {
            name: member.name.clone(),
            address: member.peer.clone(),
            hello: identity.hello_to(member.raft_id),
            messages,
            shared: Arc::clone(&shared),
        };
        tasks.spawn(connector.reconnect_forever());
        queues.insert(member.raft_id, PeerQueue { messages: sender, shared });
    }
    PeerSender { queues, sent: Arc::default(), dropped: Arc::default() }
}

/// The task that keeps one member connected.
struct Connector {
    name: String,
    address: String,
    hello: Vec<u8>,
    messages: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Connector {
    async fn reconnect_forever(mut self) {
        // A member that stays away is logged once, and not ten times a second.
        let mut logged = false;
        loop {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await {
                Ok(Ok(stream)) => {
                    tracing::info!(member = self.name, address = self.address, "connected to a member");
                    logged = false;
                    let reason = self.run(stream).await;
                    self.drop_queued();
                    tracing::warn!(
                        member = self.name,
                        address = self.address,
                        reason,
                        "lost the connection to a member"
                    );
                }
                failed if !logged => {
                    logged = true;
                    let reason = failed.map_or("no answer".to_string(), |tried| {
                        tried.map_or_else(|error| error.to_string(), |_| String::new())
                    });
                    tracing::info!(
                        member = self.name,
                        address = self.address,
                        reason,
                        "cannot reach a member; trying again"
                    );
                }
                _ => {}
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    async fn run(&mut self, stream: TcpStream) -> String {
        if let Err(error) = stream.set_nodelay(true) {
            return error.to_string();
        }
        let (mut from_them, mut to_them) = stream.into_split();
        if let Err(error) = to_them.write_all(&self.hello).await {
            return error.to_string();
        }
        self.shared.connected.store(true, Ordering::Release);
        let write = async {
            let mut pending = Vec::new();
            loop {
                let Some(first) = self.messages.recv().await else {
                    return "this coordinator ends".to_string();
                };
                pending.clear();
                pending.extend(first);
                while pending.len() < WRITE_BYTES {
                    let Ok(next) = self.messages.try_recv() else { break };
                    pending.extend(next);
                }
                self.shared.waiting_bytes.fetch_sub(pending.len() as u64, Ordering::Relaxed);
                if let Err(error) = to_them.write_all(&pending).await {
                    return error.to_string();
                }
                pending.shrink_to(WRITE_BYTES);
            }
        };
        tokio::select! {
            reason = write => reason,
            reason = watch_keepalives(&mut from_them) => reason,
        }
    }

    /// Drops messages of the lost connection: they would be outdated on the next one.
    fn drop_queued(&mut self) {
        self.shared.connected.store(false, Ordering::Release);
        self.shared.unreachable.store(true, Ordering::Relaxed);
        while let Ok(message) = self.messages.try_recv() {
            self.shared.waiting_bytes.fetch_sub(message.len() as u64, Ordering::Relaxed);
        }
    }
}

async fn watch_keepalives(stream: &mut OwnedReadHalf) -> String {
    let mut signs = [0; 64];
    loop {
        match timeout(SILENCE_MAX, stream.read(&mut signs)).await {
            Ok(Ok(0)) => return "it was closed by the other side".to_string(),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("nothing was heard for {} s", SILENCE_MAX.as_secs()),
        }
    }
}
