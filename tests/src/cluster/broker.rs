//! The broker of a cluster: a real `nats-server`, or the embedded broker as a separate process.

use super::error::Error;
use super::process::Process;
use super::progress_wait::wait_for;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    /// `nats-server` from the PATH.
    NatsServer,
    /// The broker that `muster up` uses if there is no `nats-server`.
    Embedded,
}

pub struct Broker {
    process: Process,
}

impl Broker {
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Starts a broker on loopback; returns once it accepts connections.
    pub fn start(kind: BrokerKind, port: u16, binary: &Path, directory: &Path) -> Result<Broker, Error> {
        let log = directory.join("broker.log");
        let process = match kind {
            BrokerKind::NatsServer => {
                let arguments = ["--addr", "127.0.0.1", "--port", &port.to_string()].map(str::to_string);
                Process::start(Path::new("nats-server"), &arguments, &log)?
            }
            BrokerKind::Embedded => {
                let arguments = ["broker", "--listen", &format!("127.0.0.1:{port}")].map(str::to_string);
                Process::start(binary, &arguments, &log)?
            }
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_for("the broker", || TcpStream::connect(address).map(drop).map_err(|error| error.to_string()));
        Ok(Broker { process })
    }
}
