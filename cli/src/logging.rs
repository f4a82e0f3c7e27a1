//! Logging of the server verbs, to standard error. `RUST_LOG` sets the filter.

use crate::args::LogFormat;
use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// The filter unless `RUST_LOG` is set: without it, raft logs too much.
const FILTER_DEFAULT: &str = "info,raft=warn,sled=warn,async_nats=warn,hyper=warn";

/// Starts logging. A second call changes nothing.
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
    // An error means that a subscriber is set already.
    drop(started);
}
