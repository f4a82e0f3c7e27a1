//! How a gang comes together: all call rank 0, which lets in who belongs and tells all where the others
//! listen; then each calls those below it.
//!
//! Every rank listens on a port of its own, on the address with which it reaches rank 0. Whoever calls must
//! say the gang's names and, in the mesh, the token that rank 0 has drawn; all others are turned away with a
//! reason, and hold up nobody.

use super::drive::lost;
use super::frame::{self, HELLO_BYTES_MAX, Kind};
use super::greet::{Hello, Reception, call, read_within, resolve};
use super::link::Link;
use super::{Error, Member, Timing};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use std::{io, thread};

/// Between two tries of a caller, or to listen on a port that a former life has not left yet.
const AGAIN: Duration = Duration::from_millis(150);
/// Most bytes of the list of addresses.
const MESH_BYTES_MAX: usize = 256 << 10;

/// Where all ranks listen, in order; rank 0's is not used.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mesh {
    addresses: Vec<SocketAddr>,
    token: String,
}

/// Brings all ranks together; gives a link to each other rank, in order.
pub fn form(member: &Member, rendezvous: &str, timing: Timing) -> Result<Vec<Link>, Error> {
    let streams = if member.rank == 0 {
        gather(member, rendezvous, timing)?
    } else {
        join(member, rendezvous, timing)?
    };
    let links =
        streams.into_iter().map(|(rank, stream)| Link::new(rank, stream).map_err(|e| lost(rank, &e, timing)));
    links.collect()
}

/// As rank 0: listens until all other ranks are there, and stand in the mesh.
fn gather(member: &Member, rendezvous: &str, timing: Timing) -> Result<Vec<(u32, TcpStream)>, Error> {
    let until = Instant::now() + timing.join;
    let mut reception = Reception::new(listen(rendezvous, until)?);
    let token = uuid::Uuid::new_v4().to_string();
    let mut here: Vec<Option<(TcpStream, SocketAddr)>> = (1..member.world).map(|_| None).collect();
    while !all_here(&mut here) {
        if Instant::now() >= until {
            let missing = (1..).zip(&here).filter(|(_, here)| here.is_none()).map(|(rank, _)| rank).collect();
            let (address, waited_s) = (rendezvous.to_owned(), timing.join.as_secs());
            return Err(Error::Missing {
                address,
                waited_s,
                missing,
                world: member.world,
                turned_away: reception.turned_away(),
            });
        }
        let admit = |hello: &Hello| admit(member, "", 1, &here, hello);
        if let Some((hello, stream)) = reception.next(admit)
            && let Ok(peer) = stream.peer_addr()
        {
            here[hello.member.rank as usize - 1] = Some((stream, SocketAddr::new(peer.ip(), hello.port)));
        }
    }
    let here: Vec<(TcpStream, SocketAddr)> = here.into_iter().flatten().collect();
    let own = SocketAddr::from(([0, 0, 0, 0], 0));
    let addresses = [own].into_iter().chain(here.iter().map(|(_, address)| *address)).collect();
    let mesh = Mesh { addresses, token };
    let mut streams: Vec<(u32, TcpStream)> =
        (1..).zip(here).map(|(rank, (stream, _))| (rank, stream)).collect();
    for (rank, stream) in &mut streams {
        frame::write_json(stream, Kind::Mesh, &mesh).map_err(|e| lost(*rank, &e, timing))?;
    }
    // The mesh has a time of its own, so that the last to come finds some left.
    let until = Instant::now() + timing.join;
    for (rank, stream) in &mut streams {
        match read_within(stream, until.saturating_duration_since(Instant::now()), HELLO_BYTES_MAX) {
            Ok((Kind::Ready, _)) => {}
            Ok((Kind::Refused, reason)) => {
                let reason = format!("it could not join the others: {}", String::from_utf8_lossy(&reason));
                return Err(Error::Lost { rank: *rank, reason });
            }
            Ok((other, _)) => {
                return Err(Error::Disagrees {
                    rank: *rank,
                    reason: format!("it sent {} at the wrong time", other.name()),
                });
            }
            Err(error) => return Err(lost(*rank, &error, timing)),
        }
    }
    Ok(streams)
}

fn listen(rendezvous: &str, until: Instant) -> Result<TcpListener, Error> {
    let addresses = resolve(rendezvous)?;
    loop {
        match TcpListener::bind(&addresses[..]) {
            Ok(listener) => return Ok(listener),
            // The rank 0 of a former life may be about to end.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(AGAIN)
            }
            Err(source) => return Err(Error::Listen { address: rendezvous.to_owned(), source }),
        }
    }
}

/// Whether a caller belongs to us, as a rank from `lowest` on that is not here, or why it does not.
fn admit(
    member: &Member,
    token: &str,
    lowest: u32,
    here: &[Option<(TcpStream, SocketAddr)>],
    hello: &Hello,
) -> Result<(), String> {
    let theirs = &hello.member;
    let rank = theirs.rank;
    let expected = Member { rank, ..member.clone() };
    if *theirs != expected {
        return Err(difference(theirs, &expected));
    }
    if hello.token != token {
        return Err(format!("rank {rank} does not know what rank 0 told all"));
    }
    match here.get((rank as usize).wrapping_sub(lowest as usize)) {
        Some(None) => Ok(()),
        // It may have given up and called again.
        Some(Some((stream, _))) if has_hung_up(stream) => Ok(()),
        Some(Some(_)) => Err(format!("rank {rank} is here already")),
        None => Err(format!("rank {rank} is not one of {lowest} to {}", member.world - 1)),
    }
}

/// Whether all have come. Who has given up since then has not: it may call again, and the others would wait
/// for it in the mesh.
fn all_here(here: &mut [Option<(TcpStream, SocketAddr)>]) -> bool {
    if here.iter().all(Option::is_some) {
        for one in here.iter_mut() {
            one.take_if(|(stream, _)| has_hung_up(stream));
        }
    }
    here.iter().all(Option::is_some)
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

/// As another rank: calls rank 0 until it lets us in, and then the others.
fn join(member: &Member, rendezvous: &str, timing: Timing) -> Result<Vec<(u32, TcpStream)>, Error> {
    let until = Instant::now() + timing.join;
    let addresses = resolve(rendezvous)?;
    loop {
        let reason = match enter(member, &addresses, until) {
            Ok((rank_0, listener, mesh)) => return stand(member, rank_0, listener, &mesh, timing),
            Err(reason) => reason,
        };
        // Even a refusal may pass: a former life's rank 0 may listen there for a moment more.
        if Instant::now() + AGAIN >= until {
            return Err(Error::Join {
                address: rendezvous.to_owned(),
                waited_s: timing.join.as_secs(),
                reason,
            });
        }
        thread::sleep(AGAIN);
    }
}

/// Calls rank 0, and waits until it knows all.
fn enter(
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
    let mut stream = call(addresses, "rank 0", hello)?;
    let listener = bound.ok_or("nothing to listen on")?;
    match read_within(&mut stream, until.saturating_duration_since(Instant::now()), MESH_BYTES_MAX) {
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
            Err("rank 0 has let us in, but not all ranks came".to_owned())
        }
        Err(error) => Err(format!("rank 0 has let us in, and left: {error}")),
    }
}

/// Calls the ranks below, and waits for those above.
fn stand(
    member: &Member,
    mut rank_0: TcpStream,
    listener: TcpListener,
    mesh: &Mesh,
    timing: Timing,
) -> Result<Vec<(u32, TcpStream)>, Error> {
    let meshed = reach(member, listener, mesh, timing);
    let told = match &meshed {
        Ok(_) => frame::write(&mut rank_0, Kind::Ready, b""),
        Err(error) => frame::write(&mut rank_0, Kind::Refused, error.to_string().as_bytes()),
    };
    let mut streams = meshed?;
    told.map_err(|e| lost(0, &e, timing))?;
    streams.insert(0, (0, rank_0));
    Ok(streams)
}

fn reach(
    member: &Member,
    listener: TcpListener,
    mesh: &Mesh,
    timing: Timing,
) -> Result<Vec<(u32, TcpStream)>, Error> {
    let until = Instant::now() + timing.join;
    let mut streams = Vec::new();
    for (rank, address) in (0..member.rank).zip(&mesh.addresses).skip(1) {
        let stream = loop {
            let hello = |_: IpAddr| Ok(Hello { member: member.clone(), port: 0, token: mesh.token.clone() });
            match call(&[*address], &format!("rank {rank}"), hello) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() + AGAIN < until => thread::sleep(AGAIN),
                Err(reason) => {
                    return Err(Error::Join {
                        address: address.to_string(),
                        waited_s: timing.join.as_secs(),
                        reason,
                    });
                }
            }
        };
        streams.push((rank, stream));
    }
    let mut reception = Reception::new(listener);
    let lowest = member.rank + 1;
    let mut here: Vec<Option<(TcpStream, SocketAddr)>> = (lowest..member.world).map(|_| None).collect();
    while here.iter().any(Option::is_none) {
        if Instant::now() >= until {
            let missing =
                (lowest..).zip(&here).filter(|(_, here)| here.is_none()).map(|(rank, _)| rank).collect();
            let address =
                mesh.addresses.get(member.rank as usize).map(SocketAddr::to_string).unwrap_or_default();
            let (waited_s, turned_away) = (timing.join.as_secs(), reception.turned_away());
            return Err(Error::Missing { address, waited_s, missing, world: member.world, turned_away });
        }
        let admit = |hello: &Hello| admit(member, &mesh.token, lowest, &here, hello);
        if let Some((hello, stream)) = reception.next(admit)
            && let Ok(peer) = stream.peer_addr()
        {
            here[(hello.member.rank - lowest) as usize] = Some((stream, peer));
        }
    }
    streams.extend((lowest..).zip(here.into_iter().flatten()).map(|(rank, (stream, _))| (rank, stream)));
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gave_up_while_others_came_is_not_here() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let come = || (TcpStream::connect(address).unwrap(), listener.accept().unwrap());
        let (first, gone) = come();
        let (_second, stays) = come();
        let mut here = [None, Some(stays)];
        assert!(!all_here(&mut here));
        drop(first);
        // Until the end of it has arrived.
        assert_eq!(gone.0.peek(&mut [0]).unwrap(), 0);
        here[0] = Some(gone);
        assert!(!all_here(&mut here));
        assert!(here[0].is_none() && here[1].is_some());
        let (_again, back) = come();
        here[0] = Some(back);
        assert!(all_here(&mut here));
    }
}
