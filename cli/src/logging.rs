//! The log of a server, on standard error. What is logged follows `RUST_LOG`.

use crate::args::LogFormat;
use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// What is logged unless `RUST_LOG` says otherwise: raft's own words are too many.
const FILTER_DEFAULT: &str = "info,raft=warn,sled=warn,async_nats=warn,hyper=warn";

/// Turns logging on. A second call changes nothing.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER_DEFAULT));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // Somebody else's subscriber is as good.
    drop(started);
}
