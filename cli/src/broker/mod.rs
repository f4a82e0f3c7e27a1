//! The embedded broker: enough of core NATS for one machine, on loopback only.
//!
//! Its one job is to replace a `nats-server` that is not installed, inside the parent process of `up`, `demo`
//! and tests; coordinators and workers use it through the same client library as the real one. It must never
//! be used between machines (it refuses to listen anywhere but on loopback), and never inside a coordinator.
//! It stores nothing: as in core NATS, a message without subscribers is dropped.
//!
//! What it costs: one mutex orders all deliveries, patterns with wildcards are tried one after the other,
//! there is no authorisation (any local user may connect), no TLS, no clustering, and no pings to find dead
//! connections, which loopback does not have.
//!
//! - [`parser`]: bytes to operations.
//! - [`subject`]: validity and matching of subjects.
//! - [`router`]: subscriptions and delivery.
//! - [`outbox`]: the bounded queue of bytes to one client.
//! - [`connection`]: one client's connection.

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

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "serve the embedded broker on {address}: it listens on loopback only; use nats-server between machines"
    )]
    NotLoopback { address: SocketAddr },
    /// Binding the address failed, or asking the listener for it.
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
