//! Rounds as scripts: what is offered, what is said to it, and where the round stands.

use super::*;

fn lease(replica: u32) -> Runs {
    let first = 100 + u64::from(replica) * 8;
    Runs::of([first..first + 8]).expect("is apart")
}

fn plan(replicas: u32, min_contributions: usize) -> RoundPlan {
    RoundPlan {
        round: 5,
        epoch: 2,
        base: "base".to_owned(),
        leases: (0..replicas).map(lease).collect(),
        min_contributions,
    }
}

fn offer(replica: u32) -> Offer {
    let contribution = Contribution { replica, samples: lease(replica), delta: format!("delta {replica}") };
    Offer { round: 5, epoch: 2, base: "base".to_owned(), contribution }
}

/// Words: a number is an offer of that replica, `deadline` is what it says. Gives a line for each.
fn play(mut round: Round, script: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for word in script.split_whitespace() {
        let said = match word.parse() {
            Ok(replica) => match round.offer(&offer(replica)) {
                Ok(accepted) => format!("{accepted:?}"),
                Err(refusal) => refusal.to_string(),
            },
            Err(_) => {
                assert_eq!(word, "deadline");
                round.deadline_passed();
                "passed".to_owned()
            }
        };
        let stands = match round.verdict() {
            Verdict::Open { missing } => format!("open {missing:?}"),
            Verdict::Overdue { missing, needed } => format!("overdue {missing:?} {needed}"),
            Verdict::Closed { left_out } => format!("closed {left_out:?}"),
        };
        lines.push(format!("{word}: {said}, {stands}"));
    }
    lines
}

#[test]
fn rounds_close_when_all_are_there_or_enough_in_time() {
    let table: [(u32, usize, &str, &[&str]); 5] = [
        (2, 1, "1 0 deadline", &["1: First, open [0]", "0: First, closed []", "deadline: passed, closed []"]),
        (
            3,
            2,
            "0 2 deadline 1 2",
            &[
                "0: First, open [1, 2]",
                "2: First, open [1]",
                "deadline: passed, closed [1]",
                "1: merge replica 1 into round 5: it has closed, closed [1]",
                "2: Again, closed [1]",
            ],
        ),
        (
            3,
            2,
            "0 deadline deadline 0 2 1",
            &[
                "0: First, open [1, 2]",
                "deadline: passed, overdue [1, 2] 1",
                "deadline: passed, overdue [1, 2] 1",
                "0: Again, overdue [1, 2] 1",
                "2: First, closed [1]",
                "1: merge replica 1 into round 5: it has closed, closed [1]",
            ],
        ),
        (
            2,
            2,
            "deadline 0 1",
            &["deadline: passed, overdue [0, 1] 2", "0: First, overdue [1] 1", "1: First, closed []"],
        ),
        (1, 1, "1 0", &["1: merge replica 1: there are 1, open [0]", "0: First, closed []"]),
    ];
    for (replicas, min, script, expected) in table {
        assert_eq!(play(Round::open(plan(replicas, min)).expect("can close"), script), expected, "{script}");
    }
}

#[test]
fn offers_that_do_not_belong_are_refused_and_change_nothing() {
    type Break = fn(&mut Offer);
    let table: [(&str, Break); 6] = [
        ("merge replica 1 into round 4: it has closed", |o| o.round = 4),
        ("merge replica 1 into round 6: round 5 has not ended", |o| o.round = 6),
        ("it offers in epoch 1, and this is epoch 2", |o| o.epoch = 1),
        ("its base is other instead of base", |o| o.base = "other".to_owned()),
        ("its lease is 100+8 instead of 108+8", |o| o.contribution.samples = lease(0)),
        ("merge replica 9: there are 3", |o| o.contribution.replica = 9),
    ];
    let mut round = Round::open(plan(3, 2)).expect("can close");
    for (expected, break_it) in table {
        let mut offer = offer(1);
        break_it(&mut offer);
        let message = round.offer(&offer).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!(round.verdict(), Verdict::Open { missing: vec![0, 1, 2] });
    }
    round.offer(&offer(1)).expect("belongs");
    let mut other = offer(1);
    other.contribution.delta = "another".to_owned();
    assert!(
        round.offer(&other).is_err_and(|e| e.to_string().contains("its delta is another instead of delta 1"))
    );
}

#[test]
fn a_commit_names_what_was_merged_in_order() {
    let mut round = Round::open(plan(3, 2)).expect("can close");
    assert!(round.commit("sum").is_err_and(|e| e.to_string().contains("it has not closed")));
    round.offer(&offer(2)).expect("belongs");
    round.offer(&offer(0)).expect("belongs");
    round.deadline_passed();
    let commit = round.commit("sum").expect("has closed");
    assert_eq!(commit.contributions, [offer(0).contribution, offer(2).contribution]);
    assert_eq!((commit.round, commit.epoch, commit.aggregate.as_str()), (5, 2, "sum"));
    assert_eq!(commit.samples().expect("is apart").to_string(), "100+8,116+8");
    let late = round.offer(&offer(1)).expect_err("is late");
    assert_eq!(late, Refusal::Fenced { replica: 1, round: 5 });
    assert_eq!(round.commit("sum").expect("has closed"), commit, "a late offer leaves no trace");
}

#[test]
fn a_round_that_could_never_close_is_not_opened() {
    for (replicas, min) in [(3, 0), (3, 4), (0, 1)] {
        assert!(Round::open(plan(replicas, min)).is_err(), "{min} of {replicas}");
    }
    let mut twice = plan(2, 1);
    twice.leases[1] = lease(0);
    assert!(Round::open(twice).is_err_and(|e| e.to_string().contains("leased to two replicas")));
}
