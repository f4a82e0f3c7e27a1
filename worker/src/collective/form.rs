//! How a gang comes together: rank 0 listens and lets in who belongs, the others call until they are let in.

use super::{
    Error, Member, Timing,
    frame::{self, Frame, HELLO_BYTES_MAX},
    link::Link,
};
use std::{
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a caller may take for its greeting.
const GREETING: Duration = Duration::from_secs(2);
/// How long a caller waits for the answer to it.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two looks at the listener.
const POLL: Duration = Duration::from_millis(10);
/// Between two tries of a caller, or to listen on a port that a former life has not left yet.
const AGAIN: Duration = Duration::from_millis(150);
/// Callers that are being greeted at the same time.
const CALLERS_MAX: usize = 64;

/// A caller who has said hello, or something else.
type Caller = (TcpStream, io::Result<Frame>);

/// As rank 0: listens until all other ranks are there.
pub fn gather(member: &Member, rendezvous: &str, timing: Timing) -> Result<Vec<Link>, Error> {
    let until = Instant::now() + timing.join;
    let listener = listen(rendezvous, until)?;
    let (greeted, callers) = mpsc::channel::<Caller>();
    let greeting = Arc::new(AtomicUsize::new(0));
    let mut links: Vec<Option<Link>> = (1..member.world).map(|_| None).collect();
    let mut turned_away = String::new();
    while links.iter().any(Option::is_none) {
        if Instant::now() >= until {
            let missing = (1..).zip(&links).filter(|(_, link)| link.is_none()).map(|(rank, _)| rank).collect();
            let (address, waited_s) = (rendezvous.to_owned(), timing.join.as_secs());
            return Err(Error::Missing { address, waited_s, missing, world: member.world, turned_away });
        }
        while let Ok((stream, _)) = listener.accept() {
            greet(stream, &greeted, &greeting);
        }
        let (mut stream, hello) = match callers.recv_timeout(POLL) {
            Ok(caller) => caller,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => continue,
        };
        let admitted = admit(member, &links, hello);
        let answer = match &admitted {
            Ok(_) => Frame::Welcome,
            Err(reason) => Frame::Refused(reason.clone()),
        };
        let told = frame::write(&mut stream, &answer);
        match (admitted, told) {
            (Ok(rank), Ok(())) => match Link::new(rank, stream, timing) {
                Ok(link) => links[rank as usize - 1] = Some(link),
                Err(error) => turned_away = format!("; the last turned away: rank {rank}: {error}"),
            },
            (Ok(rank), Err(error)) => turned_away = format!("; the last turned away: rank {rank}: {error}"),
            (Err(reason), _) => turned_away = format!("; the last turned away: {reason}"),
        }
    }
    Ok(links.into_iter().flatten().collect())
}

fn listen(rendezvous: &str, until: Instant) -> Result<TcpListener, Error> {
    let addresses = resolve(rendezvous)?;
    loop {
        match TcpListener::bind(&addresses[..]).and_then(|listener| listener.set_nonblocking(true).map(|()| listener)) {
            Ok(listener) => return Ok(listener),
            // The rank 0 of a former life may be about to end.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => thread::sleep(AGAIN),
            Err(source) => return Err(Error::Listen { address: rendezvous.to_owned(), source }),
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
        let hello = prepare(&stream).and_then(|()| read_within(&mut stream, GREETING));
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

/// The rank of a caller who belongs to us, or why it does not.
fn admit(member: &Member, links: &[Option<Link>], hello: io::Result<Frame>) -> Result<u32, String> {
    let theirs = match hello {
        Ok(Frame::Hello(theirs)) => theirs,
        Ok(other @ (Frame::Welcome | Frame::Refused(_) | Frame::Beat | Frame::Sums(..) | Frame::Bytes(_))) => {
            return Err(format!("{} instead of a hello", other.name()));
        }
        Err(error) => return Err(format!("no hello: {error}")),
    };
    let rank = theirs.rank;
    let expected = Member { rank, ..member.clone() };
    if theirs != expected {
        return Err(difference(&theirs, &expected));
    }
    match links.get((rank as usize).wrapping_sub(1)) {
        Some(None) => Ok(rank),
        Some(Some(_)) => Err(format!("rank {rank} is here already")),
        None => Err(format!("rank {rank} is not one of 1 to {}", member.world - 1)),
    }
}

fn difference(theirs: &Member, ours: &Member) -> String {
    let fields = [
        ("cluster", theirs.cluster.clone(), ours.cluster.clone()),
        ("job", theirs.job.clone(), ours.job.clone()),
        ("stage", theirs.stage.to_string(), ours.stage.to_string()),
        ("formation", theirs.formation.to_string(), ours.formation.to_string()),
        ("world size", theirs.world.to_string(), ours.world.to_string()),
    ];
    let differing = fields.iter().filter(|(_, theirs, ours)| theirs != ours);
    let parts: Vec<String> = differing.map(|(name, theirs, ours)| format!("{name} {theirs}, but this gang has {ours}")).collect();
    format!("rank {} says {}", theirs.rank, parts.join("; "))
}

/// As another rank: calls rank 0 until it lets us in.
pub fn join(member: &Member, rendezvous: &str, timing: Timing) -> Result<Link, Error> {
    let until = Instant::now() + timing.join;
    let addresses = resolve(rendezvous)?;
    loop {
        let reason = match call(member, &addresses) {
            Ok(stream) => match Link::new(0, stream, timing) {
                Ok(link) => return Ok(link),
                Err(error) => error.to_string(),
            },
            Err(reason) => reason,
        };
        // Even a refusal may pass: a former life's rank 0 may listen there for a moment more.
        if Instant::now() + AGAIN >= until {
            return Err(Error::Join { address: rendezvous.to_owned(), waited_s: timing.join.as_secs(), reason });
        }
        thread::sleep(AGAIN);
    }
}

fn call(member: &Member, addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let connected = addresses.iter().map(|address| TcpStream::connect_timeout(address, GREETING));
    let mut stream =
        connected.reduce(Result::or).unwrap_or_else(|| Err(io::ErrorKind::AddrNotAvailable.into())).map_err(|e| e.to_string())?;
    let greeting = prepare(&stream).and_then(|()| frame::write(&mut stream, &Frame::Hello(member.clone())));
    greeting.map_err(|e| format!("say hello: {e}"))?;
    match read_within(&mut stream, ANSWER) {
        Ok(Frame::Welcome) => Ok(stream),
        Ok(Frame::Refused(reason)) => Err(format!("rank 0 turned us away: {reason}")),
        Ok(other @ (Frame::Hello(_) | Frame::Beat | Frame::Sums(..) | Frame::Bytes(_))) => {
            Err(format!("{} instead of a welcome", other.name()))
        }
        Err(error) => Err(format!("no answer to our hello: {error}")),
    }
}

fn resolve(rendezvous: &str) -> Result<Vec<SocketAddr>, Error> {
    let addresses = rendezvous.to_socket_addrs().map_err(|e| Error::Rendezvous(format!("{rendezvous:?} is no HOST:PORT: {e}")))?;
    Ok(addresses.collect())
}

/// Reads a frame of a stranger within `limit`, however slowly its bytes drip.
fn read_within(stream: &mut TcpStream, limit: Duration) -> io::Result<Frame> {
    frame::read(&mut Within { stream, until: Instant::now() + limit }, HELLO_BYTES_MAX)
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
