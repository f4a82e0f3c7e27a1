//! The one loop of every operation: move what can be moved on every link, say that we are alive, and wait for
//! the next byte.
//!
//! One thread does all of it, so that reads and writes overlap without locks between them, and no rank waits
//! to read while it writes: all may send at once. The cost: a rank's links share one core.

use super::link::Link;
use super::{Error, Timing};
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The longest wait for a byte before the clock is looked at again.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// What ends an operation.
#[derive(Debug)]
pub enum Fault {
    /// The connection.
    Io(io::Error),
    /// The rank said something that makes no sense.
    Disagrees(String),
    /// Something else than one rank.
    Other(Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

impl Fault {
    /// As what it is for the caller.
    pub fn of(self, link: &Link, timing: Timing) -> Error {
        match self {
            Fault::Io(error) => lost(link.peer(), &error, timing),
            Fault::Disagrees(reason) => Error::Disagrees { rank: link.peer(), reason },
            Fault::Other(error) => error,
        }
    }
}

/// Something that ranks do together.
pub trait Exchange {
    /// Moves what can be moved now on the link at `place`; whether anything was.
    fn advance(&mut self, place: usize, link: &mut Link) -> Result<bool, Fault>;
    /// Whether it waits for bytes of that link, and could take them.
    fn awaits(&self, place: usize, link: &Link) -> bool;
    /// Whether it has something to send there itself, besides what is queued.
    fn sends(&self, place: usize) -> bool;
    /// Whether it needs what is queued there to go out.
    fn needs_drained(&self, place: usize) -> bool;
    /// Nothing could be moved.
    fn idle(&mut self, _now: Instant) {}
    /// When it wants to be told so again.
    fn until(&self) -> Option<Instant> {
        None
    }
    /// Whether all is done.
    fn done(&self, links: &[Link]) -> bool;
}

/// Drives `exchange` to its end.
pub fn drive(links: &mut [Link], timing: Timing, exchange: &mut impl Exchange) -> Result<(), Error> {
    let began = Instant::now();
    links.iter_mut().for_each(|link| link.listen_from(began));
    loop {
        let mut moved = false;
        for (place, link) in links.iter_mut().enumerate() {
            let step = link
                .drain()
                .map_err(Fault::Io)
                .and_then(|drained| Ok(exchange.advance(place, link)? || drained));
            moved |= step.map_err(|fault| fault.of(link, timing))?;
        }
        if exchange.done(links) {
            return Ok(());
        }
        let now = Instant::now();
        for (place, link) in links.iter_mut().enumerate() {
            link.beat(timing, now);
            let heard = exchange.awaits(place, link).then(|| link.heard());
            // A rank from which all has come, and which takes nothing more, does not beat where we read.
            let taken = (exchange.sends(place) || exchange.needs_drained(place) && !link.is_drained())
                .then(|| link.said().max(link.heard()));
            let sign = heard.or(taken);
            if sign.is_some_and(|sign| now.saturating_duration_since(sign) >= timing.silence) {
                return Err(lost(link.peer(), &io::ErrorKind::TimedOut.into(), timing));
            }
        }
        if !moved {
            exchange.idle(now);
            if exchange.done(links) {
                return Ok(());
            }
            wait(links, timing, exchange, now)?;
        }
    }
}

fn wait(links: &[Link], timing: Timing, exchange: &impl Exchange, now: Instant) -> Result<(), Error> {
    let mut wanted = Vec::with_capacity(links.len());
    for (place, link) in links.iter().enumerate() {
        let read = if exchange.awaits(place, link) { libc::POLLIN } else { 0 };
        let write = if exchange.sends(place) || !link.is_drained() { libc::POLLOUT } else { 0 };
        // Without a wish it would still tell that the peer has hung up, again and again.
        if read | write != 0 {
            wanted.push(libc::pollfd { fd: link.stream().as_raw_fd(), events: read | write, revents: 0 });
        }
    }
    let until = exchange.until().map_or(WAIT_MAX, |until| until.saturating_duration_since(now));
    let most = until.min(WAIT_MAX).min(timing.beat).min(timing.silence / 4).max(Duration::from_millis(1));
    poll(&mut wanted, most.as_millis() as i32)
}

#[expect(
    unsafe_code,
    reason = "one system call: the array is borrowed mutably for its length, and the links keep the descriptors open"
)]
fn poll(wanted: &mut [libc::pollfd], wait_ms: i32) -> Result<(), Error> {
    // SAFETY: the pointer and the length are those of one slice that nothing else sees meanwhile.
    let ready = unsafe { libc::poll(wanted.as_mut_ptr(), wanted.len() as libc::nfds_t, wait_ms) };
    let error = io::Error::last_os_error();
    if ready < 0 && error.kind() != io::ErrorKind::Interrupted { Err(Error::Poll(error)) } else { Ok(()) }
}

/// A rank is gone.
pub fn lost(rank: u32, error: &io::Error, timing: Timing) -> Error {
    let reason = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no sign of life for {:.1} s", timing.silence.as_secs_f64())
        }
        io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        _ => error.to_string(),
    };
    Error::Lost { rank, reason }
}
