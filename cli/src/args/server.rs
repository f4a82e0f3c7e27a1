//! Verbs that serve: a whole cluster, or one process of it.

use super::values::{cpus, duration_ms, name_and_number, name_and_value, size_mib};
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// How a server writes its log, on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `up`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster up\n  muster up --coordinators 3 --workers 2 --data /tmp/cluster\n\nStarted again with the same directory, the cluster goes on where it was."
)]
pub struct UpArgs {
    /// One, or three
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3), value_name = "1|3")]
    pub coordinators: u8,
    /// How many workers share this machine's CPUs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=32), value_name = "NUMBER")]
    pub workers: u8,
    /// Where everything of the cluster is kept
    #[arg(long, default_value = ".muster", value_name = "DIR")]
    pub data: PathBuf,
    /// The first coordinator's port; another one if it is taken
    #[arg(long, default_value_t = 7401)]
    pub port: u16,
}

/// `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster demo\n  muster demo --keep --data /tmp/demo --json")]
pub struct DemoArgs {
    /// Where everything is kept; must be empty or absent; a temporary directory unless set
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Leave that directory behind
    #[arg(long)]
    pub keep: bool,
    /// Another job than examples/code-model.toml; it must train, too
    #[arg(long, hide = true, value_name = "FILE")]
    pub job: Option<PathBuf>,
    /// Give up after so long
    #[arg(long, default_value = "10m", value_parser = duration_ms, value_name = "DURATION")]
    pub limit: u64,
    /// Print one JSON object on standard output, and everything else on standard error
    #[arg(long)]
    pub json: bool,
}

/// `coordinator`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster coordinator --name c1 --cluster prod --data /var/lib/muster/c1 --http 10.0.0.1:7401 --peer 10.0.0.1:7501 \\\n    --members c1=10.0.0.1:7501/10.0.0.1:7401,c2=10.0.0.2:7501/10.0.0.2:7401,c3=10.0.0.3:7501/10.0.0.3:7401 \\\n    --nats nats://10.0.0.1:4222"
)]
pub struct CoordinatorArgs {
    /// Its name, one of the members'
    #[arg(long)]
    pub name: String,
    /// The cluster's name
    #[arg(long)]
    pub cluster: String,
    /// Its own directory
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where it serves people and programs
    #[arg(long, value_name = "ADDRESS")]
    pub http: SocketAddr,
    /// Where it serves the other coordinators
    #[arg(long, value_name = "ADDRESS")]
    pub peer: SocketAddr,
    /// All coordinators, the same list everywhere
    #[arg(long, value_name = "NAME=PEER/HTTP,…")]
    pub members: String,
    /// The broker
    #[arg(long, default_value = "nats://127.0.0.1:4222", value_name = "URL")]
    pub nats: String,
    /// How to log; what is logged follows RUST_LOG
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// `worker`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  muster worker --cluster prod --data /var/lib/muster/worker --nats nats://10.0.0.1:4222 --address 10.0.0.11 \\\n    --artifacts /mnt/shared/artifacts"
)]
pub struct WorkerArgs {
    /// The cluster's name
    #[arg(long)]
    pub cluster: String,
    /// Its own directory
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The broker
    #[arg(long, default_value = "nats://127.0.0.1:4222", value_name = "URL")]
    pub nats: String,
    /// Its name; the host's unless set
    #[arg(long)]
    pub name: Option<String>,
    /// Where other workers reach it: a host name or an address
    #[arg(long, default_value = "127.0.0.1", value_name = "HOST")]
    pub address: String,
    /// CPUs to offer; all unless set
    #[arg(long, value_parser = cpus, value_name = "NUMBER")]
    pub cpus: Option<f64>,
    /// Memory to offer; all unless set
    #[arg(long, visible_alias = "mem", value_parser = size_mib, value_name = "SIZE")]
    pub memory: Option<u32>,
    /// Something countable to offer; may be repeated
    #[arg(long, value_parser = name_and_number, value_name = "NAME=NUMBER")]
    pub counter: Vec<(String, u32)>,
    /// A label; may be repeated
    #[arg(long, value_parser = name_and_value, value_name = "NAME=VALUE")]
    pub label: Vec<(String, String)>,
    /// Where artifacts are; all workers share this directory
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// How long what runs has to end after SIGTERM
    #[arg(long, value_parser = duration_ms, value_name = "DURATION")]
    pub drain: Option<u64>,
    /// The first of the ports at which gangs meet
    #[arg(long, value_name = "PORT")]
    pub rendezvous_port: Option<u16>,
    /// How many such ports there are
    #[arg(long, value_name = "NUMBER")]
    pub rendezvous_ports: Option<u16>,
    /// How to log; what is logged follows RUST_LOG
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// `broker`.
#[derive(Debug, Args)]
pub struct BrokerArgs {
    /// A loopback address
    #[arg(long, default_value = "127.0.0.1:4222", value_name = "ADDRESS")]
    pub listen: SocketAddr,
}

/// `executor`.
#[derive(Debug, Args)]
pub struct ExecutorArgs {
    /// Its name
    pub name: String,
}
