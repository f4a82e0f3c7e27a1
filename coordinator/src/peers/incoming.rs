//! Incoming connections: whoever is not a member is turned away, and whoever sends garbage is cut off;
//! nothing else is disturbed.

use super::frame;
use super::hello::Identity;
use crate::process::{Complaints, Inlet};
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

/// A caller has so long to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// Connections at once, strangers that have not said who they are included.
const CONNECTIONS_MAX: usize = 128;
/// Something is said back so often, so that a caller notices when this machine is gone.
const SIGN_OF_LIFE_INTERVAL: Duration = Duration::from_millis(500);
/// What is said back.
const SIGN_OF_LIFE: u8 = 1;
/// After an accept that failed: the process may have too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Read at once.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// The newest connection of each member: an older one is of a life that is over.
type Newest = Arc<Mutex<HashMap<u64, AbortHandle>>>;

/// Serves the other coordinators until dropped.
pub async fn serve(listener: TcpListener, identity: Identity, inlet: Inlet) {
    let identity = Arc::new(identity);
    let (complaints, newest) = (Arc::new(Complaints::default()), Newest::default());
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                complain(&complaints, None, &error.to_string());
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            complain(&complaints, Some(address), "there are too many connections");
            continue;
        };
        let (identity, inlet, complaints, newest) =
            (Arc::clone(&identity), inlet.clone(), Arc::clone(&complaints), Arc::clone(&newest));
        connections.spawn(async move {
            let _place = place;
            if let Err(reason) = converse(stream, &identity, &inlet, &newest).await {
                complain(&complaints, Some(address), &reason);
            }
        });
    }
}

fn complain(complaints: &Complaints, address: Option<SocketAddr>, reason: &str) {
    if let Some(withheld) = complaints.next() {
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        tracing::warn!(peer = address, reason, withheld, "a connection on the peer port was closed");
    }
}

async fn converse(
    stream: TcpStream,
    identity: &Identity,
    inlet: &Inlet,
    newest: &Newest,
) -> Result<(), String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    stream.set_nodelay(true).map_err(|error| words(&error))?;
    let (from_them, to_them) = stream.into_split();
    let mut from_them = BufReader::with_capacity(READ_BUFFER_BYTES, from_them);
    let greeted = timeout(HELLO_TIMEOUT, identity.greet(&mut from_them)).await;
    let from =
        greeted.map_err(|_| "it does not say who it is".to_string())?.map_err(|error| words(&error))?;
    // Both halves live in one task, which the member's next connection ends.
    let conversation = tokio::spawn({
        let inlet = inlet.clone();
        async move {
            tokio::select! {
                ended = listen(&mut from_them, from, &inlet) => ended,
                () = say_back(to_them) => Ok(()),
            }
        }
    });
    let ours = conversation.abort_handle();
    let _end_with_this = EndOnDrop(ours.clone());
    if let Some(former) = newest.lock().unwrap_or_else(PoisonError::into_inner).insert(from.0, ours) {
        former.abort();
    }
    match conversation.await {
        Ok(Err(error)) => Err(format!("{from}: {error}")),
        // Aborted by its successor, or over.
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

async fn listen(
    stream: &mut (impl AsyncRead + Unpin),
    from: muster_protocol::ids::RaftId,
    inlet: &Inlet,
) -> Result<(), frame::FrameError> {
    while let Some((message, bytes)) = frame::read(stream).await? {
        if inlet.peer(from, message, bytes).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn say_back(mut stream: OwnedWriteHalf) {
    let mut interval = interval(SIGN_OF_LIFE_INTERVAL);
    loop {
        interval.tick().await;
        if stream.write_all(&[SIGN_OF_LIFE]).await.is_err() {
            return;
        }
    }
}

struct EndOnDrop(AbortHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
