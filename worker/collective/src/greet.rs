//! Greetings between strangers: who calls says who it is, and is let in or turned away with a reason, within
//! a bounded time.

use super::frame::{self, HELLO_BYTES_MAX, Kind};
use super::{Error, Member};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How long a caller may take for its greeting.
const GREETING: Duration = Duration::from_secs(2);
/// How long a caller waits for the answer to it.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two looks at the listener.
const POLL: Duration = Duration::from_millis(10);
/// Callers that are being greeted at the same time.
const CALLERS_MAX: usize = 64;

/// The first words of whoever calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Who it says it is.
    pub member: Member,
    /// Where it listens itself.
    pub port: u16,
    /// What rank 0 told it; empty to rank 0.
    pub token: String,
}

/// A caller who has said hello, or something else.
type Caller = (TcpStream, Result<Hello, String>);

/// Where callers are received.
#[derive(Debug)]
pub struct Reception {
    listener: io::Result<TcpListener>,
    greeted: Sender<Caller>,
    callers: Receiver<Caller>,
    greeting: Arc<AtomicUsize>,
    turned_away: String,
}

impl Reception {
    /// Receives the callers of `listener`.
    pub fn new(listener: TcpListener) -> Reception {
        let (greeted, callers) = mpsc::channel();
        let listener = listener.set_nonblocking(true).map(|()| listener);
        Reception { listener, greeted, callers, greeting: Arc::default(), turned_away: String::new() }
    }

    /// Who was turned away last, and why, for a message.
    pub fn turned_away(&self) -> String {
        self.turned_away.clone()
    }

    /// The next caller that `admit` lets in, if one comes soon.
    pub fn next(&mut self, admit: impl Fn(&Hello) -> Result<(), String>) -> Option<(Hello, TcpStream)> {
        match &self.listener {
            Ok(listener) => {
                while let Ok((stream, _)) = listener.accept() {
                    greet(stream, &self.greeted, &self.greeting);
                }
            }
            Err(error) => self.turned_away = format!("; nobody can be received: {error}"),
        }
        let (mut stream, hello) = self.callers.recv_timeout(POLL).ok()?;
        let admitted = hello.and_then(|hello| admit(&hello).map(|()| hello));
        let told = match &admitted {
            Ok(_) => frame::write(&mut stream, Kind::Welcome, b""),
            Err(reason) => frame::write(&mut stream, Kind::Refused, reason.as_bytes()),
        };
        match (admitted, told) {
            (Ok(hello), Ok(())) => Some((hello, stream)),
            (Ok(hello), Err(error)) => {
                self.turned_away = format!("; the last turned away: rank {}: {error}", hello.member.rank);
                None
            }
            (Err(reason), _) => {
                self.turned_away = format!("; the last turned away: {reason}");
                None
            }
        }
    }
}

/// Reads a caller's greeting on a thread of its own: one that says nothing holds up nobody.
fn greet(mut stream: TcpStream, greeted: &Sender<Caller>, greeting: &Arc<AtomicUsize>) {
    if greeting.fetch_add(1, Ordering::Relaxed) >= CALLERS_MAX {
        greeting.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let (greeted, counted) = (greeted.clone(), Arc::clone(greeting));
    let spawned = thread::Builder::new().name("rank-greet".to_owned()).spawn(move || {
        let read = prepare(&stream).and_then(|()| read_within(&mut stream, GREETING, HELLO_BYTES_MAX));
        let hello = match read {
            Ok((Kind::Hello, body)) => frame::parse(Kind::Hello, &body),
            Ok((other, _)) => Err(format!("{} instead of a hello", other.name())),
            Err(error) => Err(format!("no hello: {error}")),
        };
        counted.fetch_sub(1, Ordering::Relaxed);
        // Nobody listens any more once all ranks are there.
        let _ = greeted.send((stream, hello));
    });
    if spawned.is_err() {
        greeting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(GREETING))
}

/// Calls `whom` and says what `hello` makes of our own address; gives the connection once we are let in.
pub fn call(
    addresses: &[SocketAddr],
    whom: &str,
    hello: impl FnOnce(IpAddr) -> Result<Hello, String>,
) -> Result<TcpStream, String> {
    let connected = addresses.iter().map(|address| TcpStream::connect_timeout(address, GREETING));
    let connected =
        connected.reduce(Result::or).unwrap_or_else(|| Err(io::ErrorKind::AddrNotAvailable.into()));
    let mut stream = connected.map_err(|e| format!("call {whom}: {e}"))?;
    let local = stream.local_addr().map_err(|e| format!("call {whom}: {e}"))?;
    let hello = hello(local.ip())?;
    let greeting = prepare(&stream).and_then(|()| frame::write_json(&mut stream, Kind::Hello, &hello));
    greeting.map_err(|e| format!("say hello: {e}"))?;
    match read_within(&mut stream, ANSWER, HELLO_BYTES_MAX) {
        Ok((Kind::Welcome, _)) => Ok(stream),
        Ok((Kind::Refused, reason)) => {
            Err(format!("{whom} turned us away: {}", String::from_utf8_lossy(&reason)))
        }
        Ok((other, _)) => Err(format!("{} instead of a welcome", other.name())),
        Err(error) => Err(format!("no answer to our hello: {error}")),
    }
}

/// The addresses of `HOST:PORT`.
pub fn resolve(rendezvous: &str) -> Result<Vec<SocketAddr>, Error> {
    let addresses = rendezvous
        .to_socket_addrs()
        .map_err(|e| Error::Rendezvous(format!("{rendezvous:?} is no HOST:PORT: {e}")))?;
    Ok(addresses.collect())
}

/// Reads a frame of the greeting within `limit`, however slowly its bytes drip.
pub fn read_within(stream: &mut TcpStream, limit: Duration, bytes_max: usize) -> io::Result<(Kind, Vec<u8>)> {
    frame::read(&mut Within { stream, until: Instant::now() + limit }, bytes_max)
}

struct Within<'a> {
    stream: &'a mut TcpStream,
    until: Instant,
}

impl Read for Within<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}
