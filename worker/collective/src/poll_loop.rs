//! The poll loop of every operation: move the bytes that can be moved on every connection, send heartbeats,
//! and wait for the next byte.
//!
//! One thread does all of it, so that reads and writes overlap without locks, and no rank stops reading while
//! it writes: all may send at once. The cost: a rank's connections share one core.

use super::connection::Connection;
use super::error::Error;
use super::timeouts::Timeouts;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The longest `poll`, after which the clock is read again.
const POLL_MAX: Duration = Duration::from_millis(250);

/// What ends an operation.
#[derive(Debug)]
pub enum ExchangeError {
    /// The connection failed.
    Io(io::Error),
    /// The rank sent something that the operation does not expect.
    Mismatch(String),
    /// A failure that is not of one connection.
    Other(Error),
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> ExchangeError {
        ExchangeError::Io(error)
    }
}

impl ExchangeError {
    /// The gang's error, for this connection.
    pub fn at(self, connection: &Connection, timeouts: Timeouts) -> Error {
        match self {
            ExchangeError::Io(error) => Error::rank_lost(connection.peer(), &error, timeouts),
            ExchangeError::Mismatch(reason) => Error::Mismatch { rank: connection.peer(), reason },
            ExchangeError::Other(error) => error,
        }
    }
}

/// An operation between this rank and its peers, driven by [`run_exchange`]. `index` is that of a connection.
pub trait Exchange {
    /// Moves the bytes that can be moved now; returns whether there were any.
    fn advance(&mut self, index: usize, connection: &mut Connection) -> Result<bool, ExchangeError>;
    /// Whether it waits for bytes of that connection, and has room for them.
    fn awaits(&self, index: usize, connection: &Connection) -> bool;
    /// Whether it has bytes to send there itself, besides the queued messages.
    fn sends(&self, index: usize) -> bool;
    /// Whether it can end only once the queue there is empty.
    fn needs_drained(&self, index: usize) -> bool;
    /// Called when no byte could be moved.
    fn idle(&mut self, _now: Instant) {}
    /// When [`Exchange::idle`] must be called at the latest.
    fn deadline(&self) -> Option<Instant> {
        None
    }
    /// Whether the operation is complete.
    fn done(&self, connections: &[Connection]) -> bool;
}

/// Runs `exchange` until it is done or a rank is lost.
pub fn run_exchange(
    connections: &mut [Connection],
    timeouts: Timeouts,
    exchange: &mut impl Exchange,
) -> Result<(), Error> {
    let began = Instant::now();
    connections.iter_mut().for_each(|connection| connection.restart_silence(began));
    loop {
        let mut moved = false;
        for (index, connection) in connections.iter_mut().enumerate() {
            let step = connection
                .drain()
                .map_err(ExchangeError::Io)
                .and_then(|drained| Ok(exchange.advance(index, connection)? || drained));
            moved |= step.map_err(|error| error.at(connection, timeouts))?;
        }
        if exchange.done(connections) {
            return Ok(());
        }
        let now = Instant::now();
        for (index, connection) in connections.iter_mut().enumerate() {
            connection.heartbeat(timeouts, now);
            let heard = exchange.awaits(index, connection).then(|| connection.last_received());
            // We don't read the heartbeats of a rank that has sent everything; that it takes our bytes
            // counts.
            let taken = (exchange.sends(index) || exchange.needs_drained(index) && !connection.is_drained())
                .then(|| connection.last_sent().max(connection.last_received()));
            let sign = heard.or(taken);
            if sign.is_some_and(|sign| now.saturating_duration_since(sign) >= timeouts.silence) {
                return Err(Error::rank_lost(connection.peer(), &io::ErrorKind::TimedOut.into(), timeouts));
            }
        }
        if !moved {
            exchange.idle(now);
            if exchange.done(connections) {
                return Ok(());
            }
            wait(connections, timeouts, exchange, now)?;
        }
    }
}

fn wait(
    connections: &[Connection],
    timeouts: Timeouts,
    exchange: &impl Exchange,
    now: Instant,
) -> Result<(), Error> {
    let mut wanted = Vec::with_capacity(connections.len());
    for (index, connection) in connections.iter().enumerate() {
        let read = if exchange.awaits(index, connection) { libc::POLLIN } else { 0 };
        let write = if exchange.sends(index) || !connection.is_drained() { libc::POLLOUT } else { 0 };
        // With no events, poll would still report a closed connection, again and again.
        if read | write != 0 {
            wanted.push(libc::pollfd {
                fd: connection.stream().as_raw_fd(),
                events: read | write,
                revents: 0,
            });
        }
    }
    let until = exchange.deadline().map_or(POLL_MAX, |until| until.saturating_duration_since(now));
    let most = until
        .min(POLL_MAX)
        .min(timeouts.heartbeat_interval)
        .min(timeouts.silence / 4)
        .max(Duration::from_millis(1));
    poll(&mut wanted, most.as_millis() as i32)
}

#[expect(
    unsafe_code,
    reason = "one system call: the array is borrowed mutably for its length, and the connections keep the descriptors open"
)]
fn poll(wanted: &mut [libc::pollfd], wait_ms: i32) -> Result<(), Error> {
    // SAFETY: the pointer and the length are those of one slice that nothing else sees meanwhile.
    let ready = unsafe { libc::poll(wanted.as_mut_ptr(), wanted.len() as libc::nfds_t, wait_ms) };
    let error = io::Error::last_os_error();
    if ready < 0 && error.kind() != io::ErrorKind::Interrupted { Err(Error::Poll(error)) } else { Ok(()) }
}
