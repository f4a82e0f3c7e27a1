//! Gangs of threads over real sockets, and strangers among them.

mod faults;
mod late;
mod training;

use super::*;
use crate::all_reduce::AllReduce;
use crate::member::WORLD_MAX;
use muster_llm::parallel::{Partial, shares, tree};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const QUICK: Timeouts = Timeouts {
    join: Duration::from_secs(20),
    silence: Duration::from_millis(1500),
    heartbeat_interval: Duration::from_millis(100),
};

fn member(rank: u32, world: u32) -> Member {
    Member { cluster: "test".to_owned(), job: "job-1".to_owned(), stage: 1, formation: 4, rank, world }
}

/// An address on which nobody listens.
fn address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Numbers whose sum depends on the order.
fn leaf(replica: usize, numbers: usize) -> Sums {
    let number =
        |i: usize| ((i * 37 + replica * 101 + 7) as f32).sin() * 10f32.powi(((i + replica) % 9) as i32 - 4);
    Sums {
        vector: (0..numbers).map(number).collect(),
        scalars: vec![0.1 * replica as f64, 1e9 / (replica + 3) as f64],
    }
}

fn partials(range: Range<usize>, replicas: usize, numbers: usize) -> Vec<Partial<Sums>> {
    tree::sum::<_, muster_llm::parallel::Error>(
        range,
        replicas,
        |replica| Ok(leaf(replica, numbers)),
        Sums::add,
    )
    .unwrap()
}

fn bits(sums: &Sums) -> (Vec<u32>, Vec<u64>) {
    (sums.vector.iter().map(|x| x.to_bits()).collect(), sums.scalars.iter().map(|x| x.to_bits()).collect())
}

fn run<T: Send + 'static>(world: u32, work: impl Fn(&mut Gang, u32) -> T + Clone + Send + 'static) -> Vec<T> {
    let address = address();
    let ranks = (0..world).map(|rank| {
        let (work, address) = (work.clone(), address.clone());
        thread::spawn(move || work(&mut Gang::join(&member(rank, world), &address, QUICK).unwrap(), rank))
    });
    ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().unwrap()).collect()
}

#[test]
fn every_rank_gets_the_same_bits_whatever_the_world_and_the_shares() {
    let chunk = all_reduce::CHUNK;
    let table: [(usize, usize, &[&[u64]]); 6] = [
        (8, 1000, &[&[1], &[1, 1], &[3, 1], &[1, 1, 1, 1], &[5, 1, 1], &[1, 2, 3, 4, 5]]),
        (5, 77, &[&[1], &[1, 1], &[1, 4], &[2, 2, 1]]),
        (7, 3 * chunk + 5, &[&[1, 1], &[1, 6], &[3, 3, 1]]),
        (4, 0, &[&[1, 1], &[1, 1, 2]]),
        (3, 1, &[&[1, 1, 1]]),
        (3, 17, &[&[1, 1, 1], &[2, 1]]),
    ];
    for (replicas, numbers, worlds) in table {
        let whole = Gang::single().all_reduce(replicas, partials(0..replicas, replicas, numbers)).unwrap();
        for speeds in worlds {
            let ranges = shares(replicas, speeds).unwrap();
            let sums = run(speeds.len() as u32, move |gang, rank| {
                let own = || partials(ranges[rank as usize].clone(), replicas, numbers);
                let first = gang.all_reduce(replicas, own()).unwrap();
                let again = gang.all_reduce(replicas, own()).unwrap();
                assert_eq!(bits(&first), bits(&again));
                first
            });
            for sum in sums {
                assert!(
                    bits(&sum) == bits(&whole),
                    "{replicas} replicas, {numbers} numbers, shared by {speeds:?}"
                );
            }
        }
    }
}

#[test]
fn ranks_that_start_at_different_times_and_send_much_at_once_end_together() {
    let (replicas, numbers) = (4, 40 * all_reduce::CHUNK + 3);
    let whole = Gang::single().all_reduce(replicas, partials(0..replicas, replicas, numbers)).unwrap();
    let sums = run(4, move |gang, rank| {
        let mut sum = Sums::default();
        for turn in 0..3 {
            if turn == rank {
                // The others have filled every buffer on the way by then.
                gang.hear_slow();
            }
            sum = gang
                .all_reduce(replicas, partials(rank as usize..rank as usize + 1, replicas, numbers))
                .unwrap();
        }
        sum
    });
    assert!(sums.iter().all(|sum| bits(sum) == bits(&whole)));
}

impl Gang {
    /// Lets the others go ahead: until nothing more can come.
    fn hear_slow(&mut self) {
        let connections = self.connections.lock().unwrap();
        let (mut before, mut scratch) = (0, vec![0; 4 << 20]);
        for connection in connections.iter() {
            loop {
                let now = connection.stream().peek(&mut scratch).unwrap_or(0);
                if now == before {
                    break;
                }
                before = now;
                thread::yield_now();
            }
        }
    }
}

#[test]
fn rank_0_decides_and_all_agree() {
    let decided = run(3, |gang, rank| {
        gang.verify_equal(b"the same").unwrap();
        let large = gang.broadcast(vec![rank as u8 + 1; 3 << 20]).unwrap();
        let all = gang.all_gather(vec![rank as u8; rank as usize]).unwrap();
        (large, all)
    });
    assert_eq!(decided, vec![(vec![1; 3 << 20], vec![vec![], vec![1], vec![2; 2]]); 3]);
    let split = run(3, |gang, rank| gang.verify_equal(&[rank as u8 / 2]).map_err(|e| e.to_string()));
    assert_eq!(split, vec![Err("agree with rank 2: it holds other weights than rank 0".to_owned()); 3]);
    let mut alone = Gang::single();
    alone.verify_equal(b"x").unwrap();
    assert_eq!(alone.broadcast(vec![1]).unwrap(), [1]);
}

#[test]
fn what_can_not_be_summed_is_noticed_by_all() {
    type Bring = fn(u32) -> (usize, Vec<Partial<Sums>>);
    let table: [(&str, Bring); 5] = [
        ("(numbers, scalars, replicas) (", |rank| {
            (2, partials(rank as usize..rank as usize + 1, 2, 3 + rank as usize))
        }),
        ("(numbers, scalars, replicas) (", |rank| {
            (2 + rank as usize, partials(rank as usize..rank as usize + 1, 2, 3))
        }),
        ("does not follow the part before it", |_| (4, partials(0..2, 4, 3))),
        ("these are not all replicas", |rank| (4, partials(rank as usize..rank as usize + 1, 4, 3))),
        ("nothing to sum", |_| (4, Vec::new())),
    ];
    for (expected, bring) in table {
        let messages = run(2, move |gang, rank| {
            let (replicas, own) = bring(rank);
            let message = gang.all_reduce(replicas, own).unwrap_err().to_string();
            assert_eq!(gang.verify_equal(b"").unwrap_err().to_string(), "use a gang that has broken before");
            message
        });
        let own = |message: &String| message.contains(expected) || message.contains("rank ");
        assert!(
            messages.iter().all(own) && messages.iter().any(|m| m.contains(expected)),
            "{expected}: {messages:?}"
        );
    }
}

#[test]
fn ranks_that_are_not_in_step_are_noticed() {
    let messages = run(2, |gang, rank| {
        let done = if rank == 0 {
            gang.verify_equal(b"x")
        } else {
            gang.all_reduce(2, partials(1..2, 2, 9)).map(drop)
        };
        done.unwrap_err().to_string()
    });
    assert!(messages.iter().any(|message| message.contains("at the wrong time")), "{messages:?}");
}

#[test]
fn strangers_are_turned_away_and_the_gang_forms_all_the_same() {
    let address = address();
    let rank_0 = {
        let address = address.clone();
        let patient = Timeouts { join: Duration::from_secs(60), ..QUICK };
        thread::spawn(move || Gang::join(&member(0, 2), &address, patient).unwrap())
    };
    // Longer than two tries, of which the first may come before rank 0 listens.
    let brief = Timeouts { join: Duration::from_millis(900), ..QUICK };
    let table: [(&str, Member); 6] = [
        ("formation 3, but this gang has 4", Member { formation: 3, ..member(1, 2) }),
        ("job job-2, but this gang has job-1", Member { job: "job-2".to_owned(), ..member(1, 2) }),
        ("cluster other, but this gang has test", Member { cluster: "other".to_owned(), ..member(1, 2) }),
        ("stage 9, but this gang has 1", Member { stage: 9, ..member(1, 2) }),
        ("world size 3, but this gang has 2", member(1, 3)),
        ("world size 3, but this gang has 2", member(2, 3)),
    ];
    for (reason, stranger) in table {
        let message = Gang::join(&stranger, &address, brief).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
    let mut silent = TcpStream::connect(&address).unwrap();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[255; 64], &[9, 0, 0, 0, 1]] {
        TcpStream::connect(&address).unwrap().write_all(garbage).unwrap();
    }
    silent.write_all(&[7]).unwrap();
    let mut rank_1 = Gang::join(&member(1, 2), &address, QUICK).unwrap();
    let mut rank_0 = rank_0.join().unwrap();
    let other = thread::spawn(move || rank_1.verify_equal(b"x"));
    rank_0.verify_equal(b"x").unwrap();
    other.join().unwrap().unwrap();
}

#[test]
fn a_rank_that_does_not_come_is_named() {
    let brief = Timeouts { join: Duration::from_millis(300), ..QUICK };
    let message = Gang::join(&member(0, 3), &address(), brief).unwrap_err().to_string();
    assert!(message.contains("ranks [1, 2] of 3 did not come"), "{message}");
    let message = Gang::join(&member(1, 3), &address(), brief).unwrap_err().to_string();
    assert!(message.contains("join the gang at 127.0.0.1:"), "{message}");
    assert!(Gang::join(&member(3, 3), &address(), brief).is_err());
    assert!(Gang::join(&member(0, WORLD_MAX + 1), &address(), brief).is_err());
    assert!(Gang::join(&member(0, 2), "nonsense", brief).unwrap_err().to_string().contains("HOST:PORT"));
}

#[test]
fn a_rank_that_gave_up_and_calls_again_is_let_in() {
    let address = address();
    let rank_0 = {
        let address = address.clone();
        thread::spawn(move || Gang::join(&member(0, 3), &address, QUICK).map(drop))
    };
    let brief = Timeouts { join: Duration::from_millis(600), ..QUICK };
    let message = Gang::join(&member(1, 3), &address, brief).unwrap_err().to_string();
    assert!(message.contains("not all ranks came"), "{message}");
    let others = [1, 2].map(|rank| {
        let address = address.clone();
        thread::spawn(move || Gang::join(&member(rank, 3), &address, QUICK).map(drop))
    });
    assert!(others.into_iter().all(|rank| rank.join().unwrap().is_ok()));
    rank_0.join().unwrap().unwrap();
}
