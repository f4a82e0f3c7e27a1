//! The handshake on a new connection: the caller says which rank it is, and is accepted or refused with a
//! reason, within a bounded time.

use super::error::Error;
use super::frame::{self, HELLO_BYTES_MAX, Kind};
use super::member::Member;
use muster_host::frame::DeadlineStream;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// How long a caller may take to connect and send its hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a caller waits for the answer to its hello.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the listener is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Handshakes at the same time.
const CALLERS_MAX: usize = 64;

/// The first frame of a caller, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Which rank the caller is.
    pub member: Member,
    /// The port on which it listens for the ranks above it.
    pub port: u16,
    /// The token that rank 0 sent it; empty in the hello to rank 0.
    pub token: String,
}

/// A caller, and its hello or what was wrong with it.
type Caller = (TcpStream, Result<Hello, String>);

/// A listener that reads the hellos of its callers, each on a thread of its own.
#[derive(Debug)]
pub struct HandshakeListener {
    listener: io::Result<TcpListener>,
    sender: Sender<Caller>,
    callers: Receiver<Caller>,
    running: Arc<AtomicUsize>,
    last_refused: String,
}

impl HandshakeListener {
    /// Accepts the callers of `listener`.
    pub fn new(listener: TcpListener) -> HandshakeListener {
        let (sender, callers) = mpsc::channel();
        let listener = listener.set_nonblocking(true).map(|()| listener);
        HandshakeListener { listener, sender, callers, running: Arc::default(), last_refused: String::new() }
    }

    /// The caller that was refused last, and the reason, for an error message.
    pub fn last_refused(&self) -> String {
        self.last_refused.clone()
    }

    /// The next caller that `admit` accepts, if one calls within [`POLL_INTERVAL`].
    pub fn next(&mut self, admit: impl Fn(&Hello) -> Result<(), String>) -> Option<(Hello, TcpStream)> {
        match &self.listener {
            Ok(listener) => {
                while let Ok((stream, _)) = listener.accept() {
                    read_hello(stream, &self.sender, &self.running);
                }
            }
            Err(error) => self.last_refused = format!("; no call can be accepted: {error}"),
        }
        let (mut stream, hello) = self.callers.recv_timeout(POLL_INTERVAL).ok()?;
        let admitted = hello.and_then(|hello| admit(&hello).map(|()| hello));
        let told = match &admitted {
            Ok(_) => frame::write(&mut stream, Kind::Welcome, b""),
            Err(reason) => frame::write(&mut stream, Kind::Refused, reason.as_bytes()),
        };
        match (admitted, told) {
            (Ok(hello), Ok(())) => Some((hello, stream)),
            (Ok(hello), Err(error)) => {
                self.last_refused = format!("; the last turned away: rank {}: {error}", hello.member.rank);
                None
            }
            (Err(reason), _) => {
                self.last_refused = format!("; the last turned away: {reason}");
                None
            }
        }
    }
}

/// Reads a caller's hello on a thread of its own: a silent caller holds up no other.
fn read_hello(stream: TcpStream, sender: &Sender<Caller>, running: &Arc<AtomicUsize>) {
    if running.fetch_add(1, Ordering::Relaxed) >= CALLERS_MAX {
        running.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let (sender, counted) = (sender.clone(), Arc::clone(running));
    let spawned = thread::Builder::new().name("rank-handshake".to_owned()).spawn(move || {
        let read = prepare(&stream).and_then(|()| read_frame(&stream, HELLO_TIMEOUT, HELLO_BYTES_MAX));
        let hello = match read {
            Ok((Kind::Hello, body)) => frame::parse(Kind::Hello, &body),
            Ok((other, _)) => Err(format!("{} instead of a hello", other.name())),
            Err(error) => Err(format!("no hello: {error}")),
        };
        counted.fetch_sub(1, Ordering::Relaxed);
        // The receiver is gone once all ranks have joined.
        let _ = sender.send((stream, hello));
    });
    if spawned.is_err() {
        running.fetch_sub(1, Ordering::Relaxed);
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(HELLO_TIMEOUT))
}

/// Connects to `whom` and sends what `hello` makes of our own address; returns once we are accepted.
pub fn connect(
    addresses: &[SocketAddr],
    whom: &str,
    hello: impl FnOnce(IpAddr) -> Result<Hello, String>,
) -> Result<TcpStream, String> {
    let connected = addresses.iter().map(|address| TcpStream::connect_timeout(address, HELLO_TIMEOUT));
    let connected =
        connected.reduce(Result::or).unwrap_or_else(|| Err(io::ErrorKind::AddrNotAvailable.into()));
    let mut stream = connected.map_err(|e| format!("call {whom}: {e}"))?;
    let local = stream.local_addr().map_err(|e| format!("call {whom}: {e}"))?;
    let hello = hello(local.ip())?;
    let sent = prepare(&stream).and_then(|()| frame::write_json(&mut stream, Kind::Hello, &hello));
    sent.map_err(|e| format!("say hello: {e}"))?;
    match read_frame(&stream, ANSWER_TIMEOUT, HELLO_BYTES_MAX) {
        Ok((Kind::Welcome, _)) => Ok(stream),
        Ok((Kind::Refused, reason)) => {
            Err(format!("{whom} turned us away: {}", String::from_utf8_lossy(&reason)))
        }
        Ok((other, _)) => Err(format!("{} instead of a welcome", other.name())),
        Err(error) => Err(format!("no answer to our hello: {error}")),
    }
}

/// The addresses of `HOST:PORT`.
pub fn resolve(address: &str) -> Result<Vec<SocketAddr>, Error> {
    let addresses = address
        .to_socket_addrs()
        .map_err(|e| Error::Rendezvous(format!("{address:?} is not HOST:PORT: {e}")))?;
    Ok(addresses.collect())
}

/// Reads a frame of the handshake within `timeout`, however slowly its bytes arrive.
pub fn read_frame(stream: &TcpStream, timeout: Duration, bytes_max: usize) -> io::Result<(Kind, Vec<u8>)> {
    frame::read(&mut DeadlineStream::new(stream, timeout), bytes_max)
}
