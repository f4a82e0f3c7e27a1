//! Arguments of the server verbs: a whole cluster, or one process of it.

use super::values::{cpus, duration_ms, name_and_number, name_and_value, size_mib};
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster up\n  muster up --coordinators 3 --workers 2 --data /tmp/cluster\n\nStarted again with the same directory, the cluster continues where it was."
)]
pub struct UpArgs {
    /// Number of coordinators: one or three
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3), value_name = "1|3")]
    pub coordinators: u8,
    /// Number of workers, which share this machine's CPUs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=32), value_name = "NUMBER")]
    pub workers: u8,
    /// The cluster's directory
    #[arg(long, default_value = ".muster", value_name = "DIR")]
    pub data: PathBuf,
    /// The port of the first coordinator; another one if it is taken
    #[arg(long, default_value_t = 7401)]
    pub port: u16,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster demo\n  muster demo --keep --data /tmp/demo --json")]
pub struct DemoArgs {
    /// The demo's directory, empty or absent [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Keep the directory
    #[arg(long)]
    pub keep: bool,
    /// A job file to run instead of examples/code-model.toml; it must train
    #[arg(long, hide = true, value_name = "FILE")]
    pub job: Option<PathBuf>,
    /// Give up after this long
    #[arg(long, default_value = "10m", value_parser = duration_ms, value_name = "DURATION")]
    pub limit: u64,
    /// Print one JSON object to standard output, and everything else to standard error
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster coordinator --name c1 --cluster prod --data /var/lib/muster/c1 --http 10.0.0.1:7401 --peer 10.0.0.1:7501 \\\n    --members c1=10.0.0.1:7501/10.0.0.1:7401,c2=10.0.0.2:7501/10.0.0.2:7401,c3=10.0.0.3:7501/10.0.0.3:7401 \\\n    --nats nats://10.0.0.1:4222"
)]
pub struct CoordinatorArgs {
    /// This coordinator's name in the list of members
    #[arg(long)]
    pub name: String,
    /// The cluster's name
    #[arg(long)]
    pub cluster: String,
    /// The data directory, for this process only
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The address of the HTTP API
    #[arg(long, value_name = "ADDRESS")]
    pub http: SocketAddr,
    /// The address for the other coordinators
    #[arg(long, value_name = "ADDRESS")]
    pub peer: SocketAddr,
    /// All coordinators; the list is the same on each
    #[arg(long, value_name = "NAME=PEER/HTTP,…")]
    pub members: String,
    /// The NATS server
    #[arg(long, default_value = "nats://127.0.0.1:4222", value_name = "URL")]
    pub nats: String,
    /// The format of the log; RUST_LOG sets the filter
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster worker --cluster prod --data /var/lib/muster/worker --nats nats://10.0.0.1:4222 --address 10.0.0.11 \\\n    --artifacts /mnt/shared/artifacts"
)]
pub struct WorkerArgs {
    /// The cluster's name
    #[arg(long)]
    pub cluster: String,
    /// The data directory, for this process only
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The NATS server
    #[arg(long, default_value = "nats://127.0.0.1:4222", value_name = "URL")]
    pub nats: String,
    /// The worker's name [default: the host's name]
    #[arg(long)]
    pub name: Option<String>,
    /// A host name or address at which other workers reach this one
    #[arg(long, default_value = "127.0.0.1", value_name = "HOST")]
    pub address: String,
    /// CPUs to offer [default: all]
    #[arg(long, value_parser = cpus, value_name = "NUMBER")]
    pub cpus: Option<f64>,
    /// Memory to offer [default: all]
    #[arg(long, visible_alias = "mem", value_parser = size_mib, value_name = "SIZE")]
    pub memory: Option<u32>,
    /// A countable resource to offer, such as licences; may be repeated
    #[arg(long, value_parser = name_and_number, value_name = "NAME=NUMBER")]
    pub counter: Vec<(String, u32)>,
    /// A label; may be repeated
    #[arg(long, value_parser = name_and_value, value_name = "NAME=VALUE")]
    pub label: Vec<(String, String)>,
    /// The artifact directory, shared by all workers
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// How long running attempts may take to finish after SIGTERM
    #[arg(long, value_parser = duration_ms, value_name = "DURATION")]
    pub drain: Option<u64>,
    /// The first port for the rendezvous of gangs
    #[arg(long, value_name = "PORT")]
    pub rendezvous_port: Option<u16>,
    /// The number of rendezvous ports
    #[arg(long, value_name = "NUMBER")]
    pub rendezvous_ports: Option<u16>,
    /// The format of the log; RUST_LOG sets the filter
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Debug, Args)]
pub struct BrokerArgs {
    /// A loopback address
    #[arg(long, default_value = "127.0.0.1:4222", value_name = "ADDRESS")]
    pub listen: SocketAddr,
}

#[derive(Debug, Args)]
pub struct ExecutorArgs {
    /// Its name
    pub name: String,
}
