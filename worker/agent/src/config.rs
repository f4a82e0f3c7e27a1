//! What a worker is told at its start.

use muster_protocol::limits::QUEUED_PER_WORKER_MAX;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How long a draining worker waits for what runs before it ends it.
pub const DRAIN_MS_DEFAULT: u64 = 30_000;
/// The first port that gangs get for their rendezvous.
pub const RENDEZVOUS_PORT_FIRST_DEFAULT: u16 = 29_400;
/// How many such ports there are.
pub const RENDEZVOUS_PORTS_DEFAULT: u16 = 100;

/// What a worker is told at its start; [`WorkerConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The cluster's name.
    pub cluster: String,
    /// The data directory: identity, logs, scratch.
    pub data: PathBuf,
    /// The broker: `nats://HOST:PORT`.
    pub nats: String,
    /// For people; `None`: the host's name.
    pub name: Option<String>,
    /// Where other workers reach this one, without a port.
    pub address: String,
    /// CPUs to offer; `None`: all that this process may use.
    pub cpus: Option<f64>,
    /// Memory to offer; `None`: all that this process may use.
    pub memory_mib: Option<u32>,
    /// Named counters to offer.
    pub counters: BTreeMap<String, u32>,
    /// For constraints.
    pub labels: BTreeMap<String, String>,
    /// The directory of artifacts, which all workers share.
    pub artifacts: PathBuf,
    /// The program that `executor NAME` is asked of: this one.
    pub executor_program: PathBuf,
    /// Attempts to take beyond the resources, queued.
    pub queue: u32,
    /// How long a draining worker waits for what runs before it ends it.
    pub drain_ms: u64,
    /// The first port that gangs get for their rendezvous.
    pub rendezvous_port_first: u16,
    /// How many such ports there are.
    pub rendezvous_ports: u16,
}

impl WorkerConfig {
    /// A worker that offers all it has, under the host's name; artifacts lie in its data directory.
    pub fn new(
        cluster: impl Into<String>,
        data: impl Into<PathBuf>,
        nats: impl Into<String>,
    ) -> WorkerConfig {
        let data = data.into();
        WorkerConfig {
            cluster: cluster.into(),
            nats: nats.into(),
            name: None,
            address: "127.0.0.1".to_string(),
            cpus: None,
            memory_mib: None,
            counters: BTreeMap::new(),
            labels: BTreeMap::new(),
            artifacts: data.join("artifacts"),
            executor_program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("muster")),
            queue: QUEUED_PER_WORKER_MAX,
            drain_ms: DRAIN_MS_DEFAULT,
            rendezvous_port_first: RENDEZVOUS_PORT_FIRST_DEFAULT,
            rendezvous_ports: RENDEZVOUS_PORTS_DEFAULT,
            data,
        }
    }
}
