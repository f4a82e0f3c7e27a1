//! Incoming connections. A caller that is not a member is refused, and one that sends invalid messages is
//! disconnected; other connections are not affected.

use super::frame;
use super::handshake::PeerIdentity;
use crate::handle::ReplicaHandle;
use muster_host::log_throttle::LogThrottle;
use muster_protocol::ids::RaftId;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{interval, sleep, timeout};

/// The time a caller has for its hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// Connections at once, including callers that have not identified themselves.
const CONNECTIONS_MAX: usize = 128;
/// How often a byte is sent back, so that a caller notices when this machine is gone.
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(500);
const KEEPALIVE: u8 = 1;
/// The pause after a failed accept: the process may have too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Log lines about closed connections per [`LOG_WINDOW`].
const LOG_LINES_MAX: u32 = 20;
const LOG_WINDOW: Duration = Duration::from_secs(10);

/// The newest connection of each member; a new one replaces it.
type CurrentConnections = Arc<Mutex<HashMap<u64, AbortHandle>>>;

/// Serves the other coordinators until dropped.
pub async fn serve(listener: TcpListener, identity: PeerIdentity, replica: ReplicaHandle) {
    let identity = Arc::new(identity);
    let throttle = Arc::new(LogThrottle::new(LOG_LINES_MAX, LOG_WINDOW));
    let current = CurrentConnections::default();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                log_closed(&throttle, None, &error.to_string());
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            log_closed(&throttle, Some(address), "there are too many connections");
            continue;
        };
        let (identity, replica, throttle, current) =
            (Arc::clone(&identity), replica.clone(), Arc::clone(&throttle), Arc::clone(&current));
        connections.spawn(async move {
            let _permit = permit;
            if let Err(reason) = handle_connection(stream, &identity, &replica, &current).await {
                log_closed(&throttle, Some(address), &reason);
            }
        });
    }
}

fn log_closed(throttle: &LogThrottle, address: Option<SocketAddr>, reason: &str) {
    if let Some(withheld) = throttle.admit() {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        tracing::warn!(peer = address, reason, withheld, "a connection on the peer port was closed");
    }
}

async fn handle_connection(
    stream: TcpStream,
    identity: &PeerIdentity,
    replica: &ReplicaHandle,
    current: &CurrentConnections,
) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    stream.set_nodelay(true).map_err(|error| text(&error))?;
    let (from_them, to_them) = stream.into_split();
    let mut from_them = BufReader::with_capacity(READ_BUFFER_BYTES, from_them);
    let greeted = timeout(HELLO_TIMEOUT, identity.read_hello(&mut from_them)).await;
    let from = greeted.map_err(|_| "it does not say who it is".to_string())?.map_err(|error| text(&error))?;
    // Both halves live in one task, which the member's next connection aborts.
    let connection = tokio::spawn({
        let replica = replica.clone();
        async move {
            tokio::select! {
                ended = listen(&mut from_them, from, &replica) => ended,
                () = send_keepalives(to_them) => Ok(()),
            }
        }
    });
    let abort = connection.abort_handle();
    let _abort_with_this = AbortOnDrop(abort.clone());
    if let Some(former) = current.lock().unwrap_or_else(PoisonError::into_inner).insert(from.0, abort) {
        former.abort();
    }
    match connection.await {
        Ok(Err(error)) => Err(format!("{from}: {error}")),
        // Replaced by a newer connection, or closed.
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

async fn listen(
    stream: &mut (impl AsyncRead + Unpin),
    from: RaftId,
    replica: &ReplicaHandle,
) -> Result<(), frame::ReadError> {
    while let Some((message, bytes)) = frame::read(stream).await? {
        if replica.peer(from, message, bytes).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn send_keepalives(mut stream: OwnedWriteHalf) {
    let mut interval = interval(KEEPALIVE_INTERVAL);
    loop {
        interval.tick().await;
        if stream.write_all(&[KEEPALIVE]).await.is_err() {
            return;
        }
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
