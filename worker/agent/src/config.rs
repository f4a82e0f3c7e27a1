//! The settings of a worker.

use muster_protocol::limits::QUEUED_PER_WORKER_MAX;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Default of [`WorkerConfig::drain_ms`].
pub const DRAIN_MS_DEFAULT: u64 = 30_000;
/// Default of [`WorkerConfig::rendezvous_port_first`].
pub const RENDEZVOUS_PORT_FIRST_DEFAULT: u16 = 29_400;
/// Default of [`WorkerConfig::rendezvous_ports`].
pub const RENDEZVOUS_PORTS_DEFAULT: u16 = 100;

/// The settings of a worker; [`WorkerConfig::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    pub cluster: String,
    /// The data directory: identity, output of attempts, scratch.
    pub data: PathBuf,
    /// The broker: `nats://HOST:PORT`.
    pub nats: String,
    /// Shown to people; `None`: the host's name.
    pub name: Option<String>,
    /// Where other workers reach this one, without a port.
    pub address: String,
    /// CPUs to offer; `None`: all that this process may use.
    pub cpus: Option<f64>,
    /// Memory to offer; `None`: all that this process may use.
    pub memory_mib: Option<u32>,
    /// Named counters to offer.
    pub counters: BTreeMap<String, u32>,
    /// Matched by jobs' constraints.
    pub labels: BTreeMap<String, String>,
    /// The directory of artifacts, shared by all workers.
    pub artifacts: PathBuf,
    /// Run as `PROGRAM executor NAME` for built-in work; by default, this program.
    pub executor_program: PathBuf,
    /// How many attempts to queue beyond those that run.
    pub queue: u32,
    /// How long a draining worker waits for running attempts before it ends them.
    pub drain_ms: u64,
    /// Gangs get their rendezvous ports from here on.
    pub rendezvous_port_first: u16,
    /// How many rendezvous ports there are.
    pub rendezvous_ports: u16,
}

impl WorkerConfig {
    /// A worker that offers everything, under the host's name, with its artifacts in its data directory.
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
