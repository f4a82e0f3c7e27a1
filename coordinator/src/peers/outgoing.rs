//! Outgoing connections: one to each other member, made again as soon as it breaks.

use super::frame;
use super::hello::Identity;
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

/// Messages that wait for one connection; what finds no room is dropped.
const MESSAGES_MAX: usize = 1024;
/// Bytes that wait for one connection.
const BYTES_MAX: u64 = 64 << 20;
/// Messages are written together up to this size.
const WRITE_BYTES: usize = 256 << 10;
/// A member that is there answers sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// From one try to the next; it does not grow, since a member that comes back is needed at once.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// A member says something back twice a second; silence for so long is a machine that is gone.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// The way to one member.
struct Way {
    queue: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connected: AtomicBool,
    waiting_bytes: AtomicU64,
    unreachable: AtomicBool,
}

/// The ways to all other members.
pub struct Outgoing {
    ways: BTreeMap<RaftId, Way>,
    sent: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
}

impl Outgoing {
    /// Sends a message, or drops it: it never waits.
    pub fn send(&self, to: RaftId, message: &PeerMessage) {
        let Some(way) = self.ways.get(&to) else { return };
        if self.try_send(way, message).is_some() {
            self.sent.fetch_add(1, Ordering::Relaxed);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            way.shared.unreachable.store(true, Ordering::Relaxed);
        }
    }

    fn try_send(&self, way: &Way, message: &PeerMessage) -> Option<()> {
        if !way.shared.connected.load(Ordering::Acquire) {
            return None;
        }
        let bytes = frame::to_bytes(message)?;
        let size = bytes.len() as u64;
        if way.shared.waiting_bytes.load(Ordering::Relaxed) + size > BYTES_MAX {
            return None;
        }
        way.shared.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        let queued = way.queue.try_send(bytes);
        if queued.is_err() {
            way.shared.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
        }
        queued.ok()
    }

    /// The members to whom a message was dropped, or a connection broke, since the last call.
    pub fn take_unreachable(&self) -> impl Iterator<Item = RaftId> {
        self.ways
            .iter()
            .filter(|(_, way)| way.shared.unreachable.swap(false, Ordering::Relaxed))
            .map(|(to, _)| *to)
    }

    /// Counters of messages sent and dropped.
    pub fn counters(&self) -> (Arc<AtomicU64>, Arc<AtomicU64>) {
        (Arc::clone(&self.sent), Arc::clone(&self.dropped))
    }
}

/// Starts a task for each other member; they end with the set.
pub fn connect(identity: &Identity, tasks: &mut JoinSet<()>) -> Outgoing {
    let mut ways = BTreeMap::new();
    for member in identity.members.iter().filter(|member| member.raft_id != identity.me.raft_id) {
        let (queue, messages) = mpsc::channel(MESSAGES_MAX);
        let shared = Arc::new(Shared::default());
        let line = Line {
            name: member.name.clone(),
            address: member.peer.clone(),
            hello: identity.hello_to(member.raft_id),
            messages,
            shared: Arc::clone(&shared),
        };
        tasks.spawn(line.keep());
        ways.insert(member.raft_id, Way { queue, shared });
    }
    Outgoing { ways, sent: Arc::default(), dropped: Arc::default() }
}

/// One member's task.
struct Line {
    name: String,
    address: String,
    hello: Vec<u8>,
    messages: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Line {
    async fn keep(mut self) {
        // A member that stays away is told of once, and not ten times a second.
        let mut said = false;
        loop {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await {
                Ok(Ok(stream)) => {
                    tracing::info!(member = self.name, address = self.address, "connected to a member");
                    said = false;
                    let reason = self.use_it(stream).await;
                    self.forget();
                    tracing::warn!(
                        member = self.name,
                        address = self.address,
                        reason,
                        "the connection to a member broke"
                    );
                }
                failed if !said => {
                    said = true;
                    let reason = failed.map_or("no answer".to_string(), |tried| {
                        tried.map_or_else(|error| error.to_string(), |_| String::new())
                    });
                    tracing::info!(
                        member = self.name,
                        address = self.address,
                        reason,
                        "a member cannot be reached; trying on"
                    );
                }
                _ => {}
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    async fn use_it(&mut self, stream: TcpStream) -> String {
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
            reason = until_silent(&mut from_them) => reason,
        }
    }

    /// What waited was for a connection that is gone; on the next one, it would be old news.
    fn forget(&mut self) {
        self.shared.connected.store(false, Ordering::Release);
        self.shared.unreachable.store(true, Ordering::Relaxed);
        while let Ok(message) = self.messages.try_recv() {
            self.shared.waiting_bytes.fetch_sub(message.len() as u64, Ordering::Relaxed);
        }
    }
}

async fn until_silent(stream: &mut OwnedReadHalf) -> String {
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
