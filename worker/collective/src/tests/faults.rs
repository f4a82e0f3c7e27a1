//! Ranks that die, freeze or talk nonsense, in every phase.

use super::*;
use crate::frame::{FrameHeader, Kind};
use muster_host::frame::Header;

/// What a rank does instead of its part.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It ends before the sum.
    Before,
    /// It ends after it has told its plan and some numbers.
    Amid,
    /// It sends nothing more, and keeps its connections.
    Freezes,
}

/// Rank 1 of `world` meets its fate; what the others say, and how long the last took.
fn meet(fate: Fate, world: u32) -> (Vec<String>, Duration) {
    let numbers = 30 * all_reduce::CHUNK;
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let address = address();
    let ranks = (0..world).map(|rank| {
        let (address, wait) = (address.clone(), Arc::clone(&wait));
        thread::spawn(move || {
            let mut gang = Gang::join(&member(rank, world), &address, QUICK).unwrap();
            let own = partials(rank as usize..rank as usize + 1, world as usize, numbers);
            let began = Instant::now();
            if rank != 1 {
                return (gang.all_reduce(world as usize, own).unwrap_err().to_string(), began.elapsed());
            }
            let mut connections = std::mem::take(&mut *gang.connections.lock().unwrap());
            match fate {
                Fate::Before => {}
                Fate::Amid => {
                    let exchange = AllReduce::new(0, 1, world as usize, world as usize, own).unwrap();
                    for connection in &mut connections {
                        assert!(connection.enqueue(all_reduce::announce(&exchange)));
                        assert!(connection.drain().unwrap());
                        let body = vec![1; 999];
                        connection.start_frame(FrameHeader::new(
                            Kind::Part,
                            0,
                            false,
                            &vec![1; all_reduce::CHUNK * 4],
                        ));
                        connection.continue_write(&body).unwrap();
                    }
                }
                // The heartbeats stop too: their thread no longer has the connections.
                Fate::Freezes => wait.lock().unwrap().recv().unwrap_or(()),
            }
            (String::new(), Duration::ZERO)
        })
    });
    let ranks: Vec<_> = ranks.collect();
    let mut messages = Vec::new();
    let mut longest = Duration::ZERO;
    let (frozen, ranks): (Vec<_>, Vec<_>) = ranks.into_iter().enumerate().partition(|(rank, _)| *rank == 1);
    for (_, rank) in ranks {
        let (message, took) = rank.join().unwrap();
        messages.push(message);
        longest = longest.max(took);
    }
    drop(done);
    frozen.into_iter().for_each(|(_, rank)| drop(rank.join().unwrap()));
    (messages, longest)
}

#[test]
fn a_rank_that_dies_or_freezes_is_noticed_by_all_in_time() {
    for fate in [Fate::Before, Fate::Amid, Fate::Freezes] {
        for world in [2, 4] {
            let (messages, longest) = meet(fate, world);
            assert_eq!(messages.len(), world as usize - 1);
            // One may hear of another's end first; somebody names the first.
            assert!(
                messages.iter().all(|message| message.starts_with("hear from rank ")),
                "{fate:?} of {world}: {messages:?}"
            );
            assert!(
                messages.iter().any(|message| message.contains("hear from rank 1")),
                "{fate:?} of {world}: {messages:?}"
            );
            assert!(longest < Duration::from_secs(30), "{fate:?} of {world}: {longest:?}");
        }
    }
}

#[test]
fn a_rank_that_is_slow_is_waited_for() {
    // Twice the silence that is allowed, but its heartbeats arrive.
    let slow = run(2, |gang, rank| {
        if rank == 1 {
            thread::sleep(QUICK.silence * 2);
        }
        let sum = gang.all_reduce(2, partials(rank as usize..rank as usize + 1, 2, 20 * all_reduce::CHUNK));
        sum.map(|sum| sum.vector.len()).map_err(|e| e.to_string())
    });
    assert_eq!(slow, vec![Ok(20 * all_reduce::CHUNK); 2]);
}

/// Rank 1 sends these bytes instead of taking part; what rank 0 says.
fn hear(bytes: Vec<u8>) -> String {
    let address = address();
    let rank_1 = {
        let address = address.clone();
        thread::spawn(move || {
            let gang = Gang::join(&member(1, 2), &address, QUICK).unwrap();
            let connection = gang.connections.lock().unwrap().remove(0);
            let mut stream = connection.stream().try_clone().unwrap();
            stream.set_nonblocking(false).unwrap();
            // Rank 0 may hang up at the first byte.
            let _ = stream.write_all(&bytes);
            connection
        })
    };
    let mut gang = Gang::join(&member(0, 2), &address, QUICK).unwrap();
    let _open = rank_1.join().unwrap();
    gang.all_reduce(2, partials(0..1, 2, 100)).unwrap_err().to_string()
}

#[test]
fn a_rank_that_talks_nonsense_is_named() {
    let frame =
        |kind, tag, body: &[u8]| [&FrameHeader::new(kind, tag, false, body).encode()[..], body].concat();
    let plan = |numbers, range: Range<usize>| {
        reduce_plan::ReducePlan::new(2, &partials(range, 2, numbers)).unwrap().encode()
    };
    let good = frame(Kind::Plan, 0, &plan(100, 1..2));
    let mut damaged = frame(Kind::Part, 0, &[1; 56 * 4]);
    *damaged.last_mut().unwrap() ^= 1;
    let table: [(&str, Vec<u8>); 11] = [
        ("at most 1048576 may come", vec![255; 64]),
        ("unknown kind 99", [&[0, 0, 0, 0, 99][..], &[0; 11]].concat()),
        ("a hello at the wrong time", frame(Kind::Hello, 0, b"{}")),
        ("the plan of a sum", frame(Kind::Plan, 0, b"{}")),
        ("of operation 7 in operation 0", frame(Kind::Plan, 7, &plan(100, 1..2))),
        ("(99, 2, 2) instead of (100, 2, 2)", frame(Kind::Plan, 0, &plan(99, 1..2))),
        ("does not follow", frame(Kind::Plan, 0, &plan(100, 0..1))),
        ("the plan of a sum at the wrong time", [good.clone(), good.clone()].concat()),
        ("of 3 bytes instead of 256", [good.clone(), frame(Kind::Part, 0, b"abc")].concat()),
        ("it gave up: failed to do more", frame(Kind::GaveUp, 0, b"do more")),
        ("damaged on the way", {
            let mut part = frame(Kind::Part, 0, &[1; 256]);
            *part.last_mut().unwrap() ^= 1;
            [good.clone(), part].concat()
        }),
    ];
    for (expected, bytes) in table {
        let message = hear(bytes);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn whoever_does_not_know_the_token_stays_out_of_the_mesh() {
    let address = address();
    let ranks = [0, 1].map(|rank| {
        let address = address.clone();
        thread::spawn(move || {
            Gang::join(&member(rank, 3), &address, QUICK).map(drop).map_err(|e| e.to_string())
        })
    });
    // As rank 2, we are told where rank 1 listens, and call it as somebody who was not.
    let hello = |token: &str| handshake::Hello { member: member(2, 3), port: 9, token: token.to_owned() };
    let addresses = handshake::resolve(&address).unwrap();
    let mut stream = loop {
        match handshake::connect(&addresses, "rank 0", |_| Ok(hello(""))) {
            Ok(stream) => break stream,
            Err(_) => thread::yield_now(),
        }
    };
    let (kind, body) = handshake::read_frame(&stream, QUICK.join, 1 << 16).unwrap();
    assert_eq!(kind, Kind::Mesh);
    let mesh: serde_json::Value = frame::parse(kind, &body).unwrap();
    let rank_1 = mesh["addresses"][1].as_str().unwrap().parse().unwrap();
    for (token, reason) in
        [("guessed", "does not know the token of rank 0"), ("", "does not know the token of rank 0")]
    {
        let message = handshake::connect(&[rank_1], "rank 1", |_| Ok(hello(token))).unwrap_err();
        assert!(message.contains(reason), "{message}");
    }
    let mut connection =
        handshake::connect(&[rank_1], "rank 1", |_| Ok(hello(mesh["token"].as_str().unwrap()))).unwrap();
    frame::write(&mut stream, Kind::Ready, b"").unwrap();
    connection.write_all(b"").unwrap();
    assert_eq!(ranks.map(|rank| rank.join().unwrap()), [Ok(()), Ok(())]);
}
