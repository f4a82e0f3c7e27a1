//! Gangs of threads, and strangers among them.

use super::*;
use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    thread,
    time::Instant,
};

const QUICK: Timing = Timing { join: Duration::from_secs(5), silence: Duration::from_millis(600), beat: Duration::from_millis(100) };

fn member(rank: u32, world: u32) -> Member {
    Member { cluster: "test".to_owned(), job: "job-1".to_owned(), stage: 1, formation: 4, rank, world }
}

/// An address on which nobody listens.
fn address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Numbers whose sum depends on the order.
fn share(rank: u32) -> Vec<f32> {
    (0..1000u32).map(|i| (i * (rank + 7)) as f32 / 3.0 * if i % 2 == 0 { 1e6 } else { -1e-3 }).collect()
}

fn run<T: Send + 'static>(world: u32, work: impl Fn(&mut Gang, u32) -> T + Clone + Send + 'static) -> Vec<T> {
    let address = address();
    let ranks = (0..world).map(|rank| {
        let (work, address) = (work.clone(), address.clone());
        thread::spawn(move || work(&mut Gang::form(&member(rank, world), &address, QUICK).unwrap(), rank))
    });
    ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().unwrap()).collect()
}

#[test]
fn every_rank_gets_the_same_bits() {
    for world in 1..=4 {
        let sums = run(world, |gang, rank| {
            let mut last = (Vec::new(), Vec::new());
            for _ in 0..3 {
                last = (share(rank), vec![f64::from(rank), 0.1]);
                gang.all_reduce(&mut last.0, &mut last.1).unwrap();
            }
            last
        });
        let expected = tree_sum((0..world).map(share).collect());
        for (vector, scalars) in sums {
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&vector), bits(&expected), "{world} ranks");
            assert_eq!(scalars[0], f64::from(world * (world - 1) / 2));
        }
    }
}

#[test]
fn rank_0_decides_and_all_agree() {
    let decided = run(3, |gang, rank| {
        gang.agree(b"the same").unwrap();
        gang.from_rank_0(vec![rank as u8; 3]).unwrap()
    });
    assert_eq!(decided, vec![vec![0; 3]; 3]);
    let split = run(2, |gang, rank| gang.agree(&[rank as u8]).map_err(|e| e.to_string()));
    assert_eq!(split[0], Err("agree with rank 1: it holds other weights than rank 0".to_owned()));
    assert!(split[1].is_err());
}

#[test]
fn other_lengths_are_noticed() {
    let results = run(2, |gang, rank| {
        let mut vector = vec![1.0; 3 + rank as usize];
        gang.all_reduce(&mut vector, &mut Vec::new()).map_err(|e| e.to_string())
    });
    assert!(results[0].as_ref().unwrap_err().contains("instead of (3, 0)"), "{results:?}");
    assert!(results[1].is_err());
}

#[test]
fn strangers_are_turned_away_and_the_gang_forms_all_the_same() {
    let address = address();
    let rank_0 = {
        let address = address.clone();
        let patient = Timing { join: Duration::from_secs(60), ..QUICK };
        thread::spawn(move || Gang::form(&member(0, 2), &address, patient).unwrap())
    };
    // Longer than two tries, of which the first may come before rank 0 listens.
    let brief = Timing { join: Duration::from_millis(900), ..QUICK };
    let table: [(&str, Member); 6] = [
        ("formation 3, but this gang has 4", Member { formation: 3, ..member(1, 2) }),
        ("job job-2, but this gang has job-1", Member { job: "job-2".to_owned(), ..member(1, 2) }),
        ("cluster other, but this gang has test", Member { cluster: "other".to_owned(), ..member(1, 2) }),
        ("stage 9, but this gang has 1", Member { stage: 9, ..member(1, 2) }),
        ("world size 3, but this gang has 2", member(1, 3)),
        ("world size 3, but this gang has 2", member(2, 3)),
    ];
    for (reason, stranger) in table {
        let message = Gang::form(&stranger, &address, brief).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
    let mut silent = TcpStream::connect(&address).unwrap();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[255; 64], &[9, 0, 0, 0, 1]] {
        TcpStream::connect(&address).unwrap().write_all(garbage).unwrap();
    }
    silent.write_all(&[7]).unwrap();
    let mut rank_1 = Gang::form(&member(1, 2), &address, QUICK).unwrap();
    let mut rank_0 = rank_0.join().unwrap();
    let other = thread::spawn(move || rank_1.agree(b"x"));
    rank_0.agree(b"x").unwrap();
    other.join().unwrap().unwrap();
}

#[test]
fn a_rank_that_does_not_come_is_named() {
    let brief = Timing { join: Duration::from_millis(300), ..QUICK };
    let message = Gang::form(&member(0, 3), &address(), brief).unwrap_err().to_string();
    assert!(message.contains("ranks [1, 2] of 3 did not come"), "{message}");
    let message = Gang::form(&member(1, 3), &address(), brief).unwrap_err().to_string();
    assert!(message.contains("join the gang at 127.0.0.1:"), "{message}");
    assert!(Gang::form(&member(3, 3), &address(), brief).is_err());
    assert!(Gang::form(&member(0, 2), "nonsense", brief).unwrap_err().to_string().contains("HOST:PORT"));
}

#[test]
fn a_rank_that_dies_is_noticed_by_all() {
    let messages = run(3, |gang, rank| {
        if rank == 1 {
            return String::new();
        }
        gang.all_reduce(&mut share(rank), &mut Vec::new()).unwrap_err().to_string()
    });
    assert!(messages[0].starts_with("hear from rank 1"), "{}", messages[0]);
    assert!(messages[2].starts_with("hear from rank 0"), "{}", messages[2]);
}

#[test]
fn a_rank_that_falls_silent_is_noticed_and_one_that_is_slow_is_not() {
    // This rank says hello and nothing more, as one whose machine stopped.
    let address = address();
    let frozen = {
        let address = address.clone();
        thread::spawn(move || {
            let mut stream = loop {
                if let Ok(stream) = TcpStream::connect(&address) {
                    break stream;
                }
                thread::yield_now();
            };
            frame::write(&mut stream, &Frame::Hello(member(1, 2))).unwrap();
            stream
        })
    };
    let mut rank_0 = Gang::form(&member(0, 2), &address, QUICK).unwrap();
    let _open = frozen.join().unwrap();
    let began = Instant::now();
    let message = rank_0.all_reduce(&mut share(0), &mut Vec::new()).unwrap_err().to_string();
    assert!(message.contains("no sign of life"), "{message}");
    assert!(began.elapsed() < Duration::from_secs(5));
    // Three times the silence that is allowed, but its beats are heard.
    let slow = run(2, |gang, rank| {
        if rank == 1 {
            thread::sleep(QUICK.silence * 3);
        }
        gang.agree(b"still here").map_err(|e| e.to_string())
    });
    assert_eq!(slow, vec![Ok(()), Ok(())]);
}
