//! The embedded broker: enough of core NATS for one machine, spoken on loopback only.
//!
//! Its one job is to stand in for a `nats-server` that is not installed, inside the parent process of `up`,
//! `demo` and tests: the workers and coordinators around it speak to it through the same client as to the
//! real one. It must never be used between machines (it refuses to listen elsewhere than on loopback), never
//! inside a coordinator, and it keeps nothing: a message that nobody is subscribed to is gone, as with core
//! NATS.
//!
//! What the choice costs: one mutex orders all deliveries, patterns with wildcards are tried one by one,
//! there is no authorisation (any local user may speak), no TLS, no clustering, and no pings of its own to
//! find dead connections, which loopback does not have.
//!
//! - [`parser`]: bytes to operations.
//! - [`subject`]: which subjects are valid, and which pattern matches which.
//! - [`router`]: who is subscribed to what, and delivery.
//! - [`outbox`]: what waits to be written to one client, bounded.
//! - [`connection`]: one client's conversation.

mod connection;
mod limits;
mod outbox;
mod parser;
mod router;
mod subject;
#[cfg(test)]
mod tests;

use limits::{ACCEPT_RETRY_MS, CLIENTS_MAX};
use router::Router;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Why the broker does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is reachable from other machines.
    #[error(
        "serve the embedded broker on {address}: it speaks on loopback only; use nats-server between machines"
    )]
    NotLoopback {
        /// The refused address.
        address: SocketAddr,
    },
    /// The address could not be bound, or its listener could not be asked.
    #[error("listen for bus clients: {0}")]
    Listen(#[from] io::Error),
}

/// A listener for [`serve`] at `address`, which must be a loopback address; port 0 picks a free one.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    if !address.ip().is_loopback() {
        return Err(Error::NotLoopback { address });
    }
    Ok(TcpListener::bind(address).await?)
}

/// Serves bus clients until the future is dropped, which disconnects them all.
pub async fn serve(listener: TcpListener) -> Result<(), Error> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        return Err(Error::NotLoopback { address });
    }
    let router = Arc::new(Router::default());
    let mut connections = JoinSet::new();
    let mut client_id = 0;
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accepting a bus client failed");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        client_id += 1;
        let room = connections.len() < CLIENTS_MAX;
        connections.spawn(connection::serve_client(stream, Arc::clone(&router), client_id, address, room));
    }
}
