//! What a test asks for, and the addresses that come of it.

use super::BrokerKind;
use std::net::SocketAddr;

/// A cluster as a test wants it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The cluster's name.
    pub name: &'static str,
    /// One or three.
    pub coordinators: usize,
    /// How many workers.
    pub workers: usize,
    /// What each worker says that it has, whatever the machine has.
    pub worker_cpus: u32,
    /// Which broker.
    pub broker: BrokerKind,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { name: "test", coordinators: 3, workers: 2, worker_cpus: 4, broker: BrokerKind::NatsServer }
    }
}

/// A coordinator's name and addresses.
#[derive(Clone, Debug)]
pub struct Member {
    /// `c1`, `c2`, …
    pub name: String,
    /// Where the others reach it.
    pub peer: SocketAddr,
    /// Where people reach it.
    pub http: SocketAddr,
    /// The broker that all of them use.
    pub broker_port: u16,
}

impl Member {
    /// Members with their ports: the broker's first, then two for each.
    pub fn all(ports: &[u16]) -> Vec<Member> {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (broker_port, pairs) = (ports[0], ports[1..].chunks_exact(2));
        pairs
            .enumerate()
            .map(|(n, pair)| Member {
                name: format!("c{}", n + 1),
                peer: loopback(pair[0]),
                http: loopback(pair[1]),
                broker_port,
            })
            .collect()
    }

    /// As in `--members`.
    pub fn flag(&self) -> String {
        format!("{}={}/{}", self.name, self.peer, self.http)
    }
}
