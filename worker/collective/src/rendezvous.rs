//! The rendezvous of a gang: all ranks connect to rank 0, which tells them where the others listen; then each
//! connects to those below it.
//!
//! Every rank listens on a port of its own, on the address with which it reaches rank 0. A caller must know
//! the gang's member fields and, in the mesh, the token that rank 0 drew; any other is refused with a reason,
//! and holds up no rank.

use super::connection::Connection;
use super::error::Error;
use super::frame::{self, HELLO_BYTES_MAX, Kind};
use super::handshake::{HandshakeListener, Hello, connect, read_frame, resolve};
use super::member::Member;
use super::timeouts::Timeouts;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use std::{io, thread};

/// Between two tries to connect, or to listen on a port that an earlier formation has not released yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(150);
/// The longest [`Mesh`].
const MESH_BYTES_MAX: usize = 256 << 10;

/// Where all ranks listen, in order of rank (rank 0's is not used), and what a caller must know.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mesh {
    addresses: Vec<SocketAddr>,
    token: String,
}

/// Connects all ranks with each other; returns a connection to each other rank, in order.
pub fn connect_all(member: &Member, address: &str, timeouts: Timeouts) -> Result<Vec<Connection>, Error> {
    let streams = if member.rank == 0 {
        accept_ranks(member, address, timeouts)?
    } else {
        join(member, address, timeouts)?
    };
    let connections = streams.into_iter().map(|(rank, stream)| {
        Connection::new(rank, stream).map_err(|e| Error::rank_lost(rank, &e, timeouts))
    });
    connections.collect()
}

/// As rank 0: listens until all other ranks have joined, and are connected to each other.
fn accept_ranks(member: &Member, address: &str, timeouts: Timeouts) -> Result<Vec<(u32, TcpStream)>, Error> {
    let until = Instant::now() + timeouts.join;
    let mut handshakes = HandshakeListener::new(listen(address, until)?);
    let token = uuid::Uuid::new_v4().to_string();
    let mut joined: Vec<Option<(TcpStream, SocketAddr)>> = (1..member.world).map(|_| None).collect();
    while !all_joined(&mut joined) {
        if Instant::now() >= until {
            let missing =
                (1..).zip(&joined).filter(|(_, joined)| joined.is_none()).map(|(rank, _)| rank).collect();
            let (address, waited_s) = (address.to_owned(), timeouts.join.as_secs());
            return Err(Error::Missing {
                address,
                waited_s,
                missing,
                world: member.world,
                turned_away: handshakes.last_refused(),
            });
        }
        let admit = |hello: &Hello| admit(member, "", 1, &joined, hello);
        if let Some((hello, stream)) = handshakes.next(admit)
            && let Ok(peer) = stream.peer_addr()
        {
            joined[hello.member.rank as usize - 1] = Some((stream, SocketAddr::new(peer.ip(), hello.port)));
        }
    }
    let joined: Vec<(TcpStream, SocketAddr)> = joined.into_iter().flatten().collect();
    let own = SocketAddr::from(([0, 0, 0, 0], 0));
    let addresses = [own].into_iter().chain(joined.iter().map(|(_, address)| *address)).collect();
    let mesh = Mesh { addresses, token };
    let mut streams: Vec<(u32, TcpStream)> =
        (1..).zip(joined).map(|(rank, (stream, _))| (rank, stream)).collect();
    for (rank, stream) in &mut streams {
        frame::write_json(stream, Kind::Mesh, &mesh).map_err(|e| Error::rank_lost(*rank, &e, timeouts))?;
    }
    // The mesh has a timeout of its own, so that there is time left for the rank that joined last.
    let until = Instant::now() + timeouts.join;
    for (rank, stream) in &mut streams {
        match read_frame(stream, until.saturating_duration_since(Instant::now()), HELLO_BYTES_MAX) {
            Ok((Kind::Ready, _)) => {}
            Ok((Kind::Refused, reason)) => {
                let reason = format!("it could not join the others: {}", String::from_utf8_lossy(&reason));
                return Err(Error::RankLost { rank: *rank, reason });
            }
            Ok((other, _)) => {
                return Err(Error::Mismatch {
                    rank: *rank,
                    reason: format!("it sent {} at the wrong time", other.name()),
                });
            }
            Err(error) => return Err(Error::rank_lost(*rank, &error, timeouts)),
        }
    }
    Ok(streams)
}

fn listen(address: &str, until: Instant) -> Result<TcpListener, Error> {
    let addresses = resolve(address)?;
    loop {
        match TcpListener::bind(&addresses[..]) {
            Ok(listener) => return Ok(listener),
            // The rank 0 of an earlier formation may be about to end.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(RETRY_INTERVAL)
            }
            Err(source) => return Err(Error::Listen { address: address.to_owned(), source }),
        }
    }
}

/// Whether a caller is a rank of this gang, from `lowest` on, that has not joined yet; the error is the
/// reason to refuse it.
fn admit(
    member: &Member,
    token: &str,
    lowest: u32,
    joined: &[Option<(TcpStream, SocketAddr)>],
    hello: &Hello,
) -> Result<(), String> {
    let theirs = &hello.member;
    let rank = theirs.rank;
    let expected = Member { rank, ..member.clone() };
    if *theirs != expected {
        return Err(difference(theirs, &expected));
    }
    if hello.token != token {
        return Err(format!("rank {rank} does not know the token of rank 0"));
    }
    match joined.get((rank as usize).wrapping_sub(lowest as usize)) {
        Some(None) => Ok(()),
        // It may have given up and connected again.
        Some(Some((stream, _))) if has_hung_up(stream) => Ok(()),
        Some(Some(_)) => Err(format!("rank {rank} has joined already")),
        None => Err(format!("rank {rank} is not one of {lowest} to {}", member.world - 1)),
    }
}

/// Whether all have joined. A rank that has hung up since then has not: it may connect again, and the others
/// would wait for it in the mesh.
fn all_joined(joined: &mut [Option<(TcpStream, SocketAddr)>]) -> bool {
    if joined.iter().all(Option::is_some) {
        for one in joined.iter_mut() {
            one.take_if(|(stream, _)| has_hung_up(stream));
        }
    }
    joined.iter().all(Option::is_some)
}

fn has_hung_up(stream: &TcpStream) -> bool {
    let peek = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let open = stream.set_nonblocking(false);
    open.is_err() || !matches!(peek, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
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
    let parts: Vec<String> =
        differing.map(|(name, theirs, ours)| format!("{name} {theirs}, but this gang has {ours}")).collect();
    format!("rank {} says {}", theirs.rank, parts.join("; "))
}

/// As another rank: connects to rank 0 until it accepts us, and then to the others.
fn join(member: &Member, address: &str, timeouts: Timeouts) -> Result<Vec<(u32, TcpStream)>, Error> {
    let until = Instant::now() + timeouts.join;
    let addresses = resolve(address)?;
    loop {
        let reason = match register(member, &addresses, until) {
            Ok((rank_0, listener, mesh)) => return enter_mesh(member, rank_0, listener, &mesh, timeouts),
            Err(reason) => reason,
        };
        // A refusal may pass too: the rank 0 of an earlier formation may still listen there.
        if Instant::now() + RETRY_INTERVAL >= until {
            return Err(Error::Join {
                address: address.to_owned(),
                waited_s: timeouts.join.as_secs(),
                reason,
            });
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

/// Connects to rank 0, and waits until it has sent the [`Mesh`].
fn register(
    member: &Member,
    addresses: &[SocketAddr],
    until: Instant,
) -> Result<(TcpStream, TcpListener, Mesh), String> {
    let mut bound = None;
    let hello = |local: IpAddr| {
        let listener = TcpListener::bind((local, 0)).map_err(|e| format!("listen on {local}: {e}"))?;
        let port = listener.local_addr().map_err(|e| format!("listen on {local}: {e}"))?.port();
        bound = Some(listener);
        Ok(Hello { member: member.clone(), port, token: String::new() })
    };
    let stream = connect(addresses, "rank 0", hello)?;
    let listener = bound.ok_or("nothing to listen on")?;
    match read_frame(&stream, until.saturating_duration_since(Instant::now()), MESH_BYTES_MAX) {
        Ok((Kind::Mesh, body)) => {
            let mesh: Mesh = frame::parse(Kind::Mesh, &body)?;
            let count = mesh.addresses.len();
            if count != member.world as usize {
                return Err(format!("rank 0 knows {count} ranks of {}", member.world));
            }
            Ok((stream, listener, mesh))
        }
        Ok((other, _)) => Err(format!("{} instead of the addresses of the ranks", other.name())),
        Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            Err("rank 0 has accepted us, but not all ranks came".to_owned())
        }
        Err(error) => Err(format!("rank 0 has accepted us, and hung up: {error}")),
    }
}

/// Connects to the others, and tells rank 0 how that went.
fn enter_mesh(
    member: &Member,
    mut rank_0: TcpStream,
    listener: TcpListener,
    mesh: &Mesh,
    timeouts: Timeouts,
) -> Result<Vec<(u32, TcpStream)>, Error> {
    let connected = connect_mesh(member, listener, mesh, timeouts);
    let reported = match &connected {
        Ok(_) => frame::write(&mut rank_0, Kind::Ready, b""),
        Err(error) => frame::write(&mut rank_0, Kind::Refused, error.to_string().as_bytes()),
    };
    let mut streams = connected?;
    reported.map_err(|e| Error::rank_lost(0, &e, timeouts))?;
    streams.insert(0, (0, rank_0));
    Ok(streams)
}

/// Connects to the ranks below, and waits for those above.
fn connect_mesh(
    member: &Member,
    listener: TcpListener,
    mesh: &Mesh,
    timeouts: Timeouts,
) -> Result<Vec<(u32, TcpStream)>, Error> {
    let until = Instant::now() + timeouts.join;
    let mut streams = Vec::new();
    for (rank, address) in (0..member.rank).zip(&mesh.addresses).skip(1) {
        let stream = loop {
            let hello = |_: IpAddr| Ok(Hello { member: member.clone(), port: 0, token: mesh.token.clone() });
            match connect(&[*address], &format!("rank {rank}"), hello) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() + RETRY_INTERVAL < until => thread::sleep(RETRY_INTERVAL),
                Err(reason) => {
                    return Err(Error::Join {
                        address: address.to_string(),
                        waited_s: timeouts.join.as_secs(),
                        reason,
                    });
                }
            }
        };
        streams.push((rank, stream));
    }
    let mut handshakes = HandshakeListener::new(listener);
    let lowest = member.rank + 1;
    let mut joined: Vec<Option<(TcpStream, SocketAddr)>> = (lowest..member.world).map(|_| None).collect();
    while joined.iter().any(Option::is_none) {
        if Instant::now() >= until {
            let missing = (lowest..)
                .zip(&joined)
                .filter(|(_, joined)| joined.is_none())
                .map(|(rank, _)| rank)
                .collect();
            let address =
                mesh.addresses.get(member.rank as usize).map(SocketAddr::to_string).unwrap_or_default();
            let (waited_s, turned_away) = (timeouts.join.as_secs(), handshakes.last_refused());
            return Err(Error::Missing { address, waited_s, missing, world: member.world, turned_away });
        }
        let admit = |hello: &Hello| admit(member, &mesh.token, lowest, &joined, hello);
        if let Some((hello, stream)) = handshakes.next(admit)
            && let Ok(peer) = stream.peer_addr()
        {
            joined[(hello.member.rank - lowest) as usize] = Some((stream, peer));
        }
    }
    streams.extend((lowest..).zip(joined.into_iter().flatten()).map(|(rank, (stream, _))| (rank, stream)));
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_that_hung_up_while_others_joined_has_not_joined() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || (TcpStream::connect(address).unwrap(), listener.accept().unwrap());
        let (first, gone) = connect();
        let (_second, stays) = connect();
        let mut joined = [None, Some(stays)];
        assert!(!all_joined(&mut joined));
        drop(first);
        // Waits until the end of the stream has arrived.
        assert_eq!(gone.0.peek(&mut [0]).unwrap(), 0);
        joined[0] = Some(gone);
        assert!(!all_joined(&mut joined));
        assert!(joined[0].is_none() && joined[1].is_some());
        let (_again, back) = connect();
        joined[0] = Some(back);
        assert!(all_joined(&mut joined));
    }
}
