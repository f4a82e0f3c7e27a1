//! The shape of a cluster, and the addresses of its coordinators.

use super::broker::BrokerKind;
use std::net::SocketAddr;

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    /// One or three.
    pub coordinators: usize,
    pub workers: usize,
    /// What each worker offers, whatever the machine has.
    pub worker_cpus: u32,
    pub broker: BrokerKind,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { name: "test", coordinators: 3, workers: 2, worker_cpus: 4, broker: BrokerKind::NatsServer }
    }
}

#[derive(Clone, Debug)]
pub struct Member {
    /// `c1`, `c2`, …
    pub name: String,
    pub peer: SocketAddr,
    pub http: SocketAddr,
    pub broker_port: u16,
}

impl Member {
    /// Assigns ports: the first to the broker, then two to each member.
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

    /// The member as it stands in `--members`.
    pub fn flag(&self) -> String {
        format!("{}={}/{}", self.name, self.peer, self.http)
    }
}
