//! Rounds with ranks that are late: they are left out, they learn it, and they go on with all.

use super::*;

fn rule(replicas: u32, min_contributions: u32, within: Duration) -> RoundQuorum {
    RoundQuorum { replicas, min_contributions, until: Instant::now() + within }
}

/// An outcome that says who was merged by what they sent.
fn outcome(contributions: &BTreeMap<u32, Vec<u8>>) -> RoundOutcome {
    RoundOutcome {
        merged: contributions.keys().copied().collect(),
        bytes: contributions.values().flatten().copied().collect(),
    }
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn all_contribute_and_learn_what_came_of_it() {
    // Rank 0 holds replicas 0 and 1, the others one each; some contributions are longer than a frame.
    let outcomes = run(3, |gang, rank| {
        let own = |round: u32| match rank {
            0 => vec![(0, vec![round as u8; 2]), (1, vec![7])],
            _ => vec![(rank + 1, vec![rank as u8 * 10; 1_500_000])],
        };
        let mut seen = Vec::new();
        for round in 5..8 {
            if rank == 0 {
                let contributions = gang.gather(round, rule(4, 4, LONG), own(round)).unwrap();
                let outcome = outcome(&contributions);
                gang.publish(round, &outcome).unwrap();
                seen.push(outcome);
            } else {
                seen.push(gang.contribute(round, own(round)).unwrap());
            }
        }
        gang.verify_equal(b"still in step").unwrap();
        seen
    });
    assert!(outcomes.iter().all(|seen| *seen == outcomes[0]));
    for (round, outcome) in (5..).zip(&outcomes[0]) {
        assert_eq!(outcome.merged, [0, 1, 2, 3]);
        assert_eq!(outcome.bytes.len(), 3 + 3_000_000);
        assert_eq!(
            (outcome.bytes[..4].to_vec(), outcome.bytes.last()),
            (vec![round, round, 7, 10], Some(&20))
        );
    }
}

#[test]
fn a_late_rank_is_fenced_and_goes_on_with_all() {
    let (release, late) = std::sync::mpsc::channel::<()>();
    let late = Arc::new(Mutex::new(late));
    let release = Arc::new(Mutex::new(Some(release)));
    let large = 3 << 20;
    let outcomes = run(3, move |gang, rank| {
        let own = |round: u32| vec![(rank, vec![(round * 10 + rank) as u8; large])];
        let mut seen = Vec::new();
        for round in 1..4 {
            match rank {
                0 => {
                    // Round 1 and 2 do not wait for rank 2, round 3 does.
                    let within = if round == 3 { LONG } else { Duration::ZERO };
                    let contributions = gang.gather(round, rule(3, 2, within), own(round)).unwrap();
                    let outcome = outcome(&contributions);
                    gang.publish(round, &outcome).unwrap();
                    if round == 2 {
                        drop(release.lock().unwrap().take());
                    }
                    seen.push(outcome);
                }
                1 => seen.push(gang.contribute(round, own(round)).unwrap()),
                _ => {
                    if round == 1 {
                        // It computes until two rounds are over without it.
                        let _ = late.lock().unwrap().recv();
                    }
                    // It looks for itself in round 2, and would have sent a contribution in round 1.
                    match if round == 2 { gang.poll_outcome(round).unwrap() } else { None } {
                        Some(outcome) => seen.push(outcome),
                        None => seen.push(gang.contribute(round, own(round)).unwrap()),
                    }
                }
            }
        }
        gang.verify_equal(b"still in step").unwrap();
        seen
    });
    assert!(outcomes.iter().all(|seen| *seen == outcomes[0]));
    let merged: Vec<_> = outcomes[0].iter().map(|outcome| outcome.merged.clone()).collect();
    assert_eq!(merged, [vec![0, 1], vec![0, 1], vec![0, 1, 2]]);
    assert!(outcomes[0][0].has(1) && !outcomes[0][0].has(2));
    assert!(outcomes[0].iter().all(|outcome| outcome.bytes.len() == outcome.merged.len() * large));
}

#[test]
fn a_contribution_that_was_on_its_way_is_thrown_away() {
    // Rank 1 sends for round 1 after that has closed: the bytes cross the outcome, and none of them is
    // merged.
    let (closed, go) = std::sync::mpsc::channel::<()>();
    let (closed, go) = (Arc::new(Mutex::new(Some(closed))), Arc::new(Mutex::new(go)));
    let merged = run(2, move |gang, rank| {
        if rank == 1 {
            let mut connections = gang.connections.lock().unwrap();
            // It does not look for the outcome first, as one whose bytes were on the wire already.
            let _ = go.lock().unwrap().recv();
            let bytes = [vec![1; 5 << 20], 1u32.to_le_bytes().to_vec()].concat();
            assert!(connections[0].enqueue(connection::QueuedMessage {
                kind: frame::Kind::Contribution,
                tag: 1,
                bytes: Arc::new(bytes)
            }));
            drop(connections);
            let first = gang.contribute(1, Vec::new()).unwrap();
            let second = gang.contribute(2, vec![(1, vec![2])]).unwrap();
            gang.verify_equal(b"in step").unwrap();
            return vec![first.merged, second.merged];
        }
        let mut seen = Vec::new();
        for round in [1, 2] {
            let within = if round == 1 { Duration::ZERO } else { LONG };
            let contributions = gang.gather(round, rule(2, 1, within), vec![(0, vec![0])]).unwrap();
            drop(closed.lock().unwrap().take());
            gang.publish(round, &outcome(&contributions)).unwrap();
            seen.push(contributions.keys().copied().collect());
        }
        gang.verify_equal(b"in step").unwrap();
        seen
    });
    assert_eq!(merged, vec![vec![vec![0], vec![0, 1]]; 2]);
}

#[test]
fn too_few_are_waited_for_and_a_dead_rank_is_an_error() {
    let waited = run(2, |gang, rank| {
        if rank == 1 {
            return gang
                .contribute(1, vec![(1, vec![9])])
                .map(|outcome| outcome.merged)
                .map_err(|e| e.to_string());
        }
        // The time is up from the start, but two are needed.
        let contributions = gang.gather(1, rule(2, 2, Duration::ZERO), vec![(0, vec![8])]).unwrap();
        gang.publish(1, &outcome(&contributions)).unwrap();
        Ok(contributions.keys().copied().collect())
    });
    assert_eq!(waited, vec![Ok(vec![0, 1]); 2]);
    let died = run(3, |gang, rank| match rank {
        0 => gang.gather(1, rule(3, 2, LONG), vec![(0, vec![8])]).map(drop).unwrap_err().to_string(),
        1 => gang.contribute(1, vec![(1, vec![9])]).map(drop).unwrap_err().to_string(),
        _ => String::new(),
    });
    assert!(died[0].contains("hear from rank 2") && died[1].contains("hear from rank"), "{died:?}");
}

#[test]
fn contributions_that_make_no_sense_are_refused() {
    let table: [(&str, u32, &[u32]); 3] = [
        ("for replica 2 of 2", 1, &[2]),
        ("for replica 1, which has contributed", 1, &[1, 1]),
        ("of 3 at the wrong time, in round 1", 3, &[1]),
    ];
    for (expected, round, replicas) in table {
        let messages = run(2, move |gang, rank| {
            if rank == 1 {
                let own = replicas.iter().map(|replica| (*replica, vec![1])).collect();
                return gang.contribute(round, own).map(drop).unwrap_err().to_string();
            }
            // Nothing closes the round but its deadline.
            gang.gather(1, rule(2, 2, LONG), Vec::new()).map(drop).unwrap_err().to_string()
        });
        assert!(messages[0].contains(expected), "{expected}: {messages:?}");
    }
    let mut alone = Gang::single();
    assert!(
        alone.contribute(1, Vec::new()).is_err_and(|e| e.to_string().contains("rank 0 may not contribute"))
    );
    let gathered = alone.gather(1, rule(1, 1, LONG), vec![(0, vec![1])]).unwrap();
    alone.publish(1, &outcome(&gathered)).unwrap();
    assert_eq!(gathered.len(), 1);
}
