//! Trainings as tables of records, and the audit's verdict on each.

use super::*;
use muster_protocol::ids::{AttemptId, Digest, JobId, LogIndex};
use muster_protocol::time::{LogMs, WallMs};

/// A name, records of rank 0 (`epoch`, key, body), and part of the expected violation, if any.
type Case<'a> = (&'a str, &'a [(u32, &'a str, &'a str)], Option<&'a str>);

fn audit(records: &[(u32, &str, &str)]) -> Audit {
    let spec = serde_json::json!({"name": "x", "stages": [{"name": "train", "tasks": 2, "work": {"type": "builtin", "executor": "train"}}]});
    let mut audit = Audit::of(&serde_json::from_value(spec).unwrap());
    for (index, (epoch, key, body)) in records.iter().enumerate() {
        let attempt = AttemptId { task: TaskId { job: JobId(1), index: 0 }, epoch: *epoch };
        let (seq, payload_hash) = (index as u64, Digest::default());
        let record =
            ProgressRecord { attempt, key: (*key).to_owned(), seq, payload_hash, body: (*body).to_owned() };
        let (actor, cause) = (String::new(), String::new());
        let event = Event::ProgressRecorded(record);
        audit.take(&EventView {
            index: LogIndex(seq),
            ordinal: 0,
            log_ms: LogMs(0),
            wall_ms: WallMs(0),
            actor,
            cause,
            event,
        });
    }
    audit.close(true);
    audit
}

const PLAN: (u32, &str, &str) = (1, "resume", r#"{"formation":1,"samples":16}"#);
const LEASE_0: (u32, &str, &str) = (1, "lease", r#"{"round":0,"samples":"0+8"}"#);
const ROUND_0: (u32, &str, &str) = (1, "round", r#"{"round":0,"samples":"0+8"}"#);
const LEASE_1: (u32, &str, &str) = (1, "lease", r#"{"round":1,"samples":"8+8"}"#);
const ROUND_1: (u32, &str, &str) = (1, "round", r#"{"round":1,"samples":"8+8"}"#);

#[test]
fn each_sample_once_or_it_is_said() {
    let again = |key| (2, key, r#"{"round":1,"samples":"8+8"}"#);
    let table: &[Case] = &[
        ("in order", &[PLAN, LEASE_0, ROUND_0, LEASE_1, ROUND_1], None),
        ("the next is leased while the last is written", &[PLAN, LEASE_0, LEASE_1, ROUND_0, ROUND_1], None),
        ("killed in round 1", &[PLAN, LEASE_0, ROUND_0, LEASE_1, again("lease"), again("round")], None),
        (
            "killed with two open",
            &[
                PLAN,
                LEASE_0,
                LEASE_1,
                (2, LEASE_0.1, LEASE_0.2),
                (2, "round", ROUND_0.2),
                again("lease"),
                again("round"),
            ],
            None,
        ),
        (
            "a range is left out",
            &[
                PLAN,
                LEASE_0,
                ROUND_0,
                LEASE_1,
                (1, "guard/0000", r#"{"skipped":"8+2"}"#),
                (1, "lease", r#"{"round":1,"samples":"10+8"}"#),
                (1, "round", r#"{"round":1,"samples":"10+8"}"#),
            ],
            None,
        ),
        (
            "a late replica's samples go back",
            &[
                PLAN,
                LEASE_0,
                (1, "round", r#"{"round":0,"samples":"0+4"}"#),
                (1, "lease", r#"{"round":1,"samples":"4+12"}"#),
                (1, "round", r#"{"round":1,"samples":"4+12"}"#),
            ],
            None,
        ),
        (
            "a replica is refused",
            &[
                PLAN,
                LEASE_0,
                LEASE_1,
                (1, "round", r#"{"round":0,"samples":"0+4"}"#),
                (1, "guard/0000", r#"{"skipped":"4+4"}"#),
                ROUND_1,
            ],
            None,
        ),
        (
            "late in the last round: no other is left",
            &[
                PLAN,
                LEASE_0,
                LEASE_1,
                ROUND_0,
                (1, "round", r#"{"round":1,"samples":"8+4"}"#),
                (1, "guard/0000", r#"{"skipped":"12+4"}"#),
            ],
            None,
        ),
        (
            "a round is done again, and the one after it had been leased",
            &[
                PLAN,
                LEASE_0,
                LEASE_1,
                (1, "guard/0000", r#"{"skipped":"0+8"}"#),
                (1, "lease", r#"{"round":0,"samples":"8+8"}"#),
                (1, "lease", r#"{"round":1,"samples":"16+8"}"#),
                (1, "round", r#"{"round":0,"samples":"8+8"}"#),
                (1, "round", r#"{"round":1,"samples":"16+8"}"#),
            ],
            None,
        ),
        (
            "what a late replica gives back is leased too early",
            &[
                PLAN,
                LEASE_0,
                (1, "lease", r#"{"round":1,"samples":"4+12"}"#),
                (1, "round", r#"{"round":0,"samples":"0+4"}"#),
            ],
            Some("round 1 leases samples that round 0 holds"),
        ),
        ("not leased", &[PLAN, ROUND_0, LEASE_1, ROUND_1], Some("round 0 was not leased")),
        (
            "a dead attempt commits",
            &[PLAN, LEASE_0, ROUND_0, again("lease"), ROUND_1],
            Some("leased by epoch 2"),
        ),
        (
            "twice",
            &[PLAN, LEASE_0, ROUND_0, (1, "lease", r#"{"round":1,"samples":"7+9"}"#), ROUND_1],
            Some("1 samples that were consumed before"),
        ),
        (
            "a round is left out",
            &[
                PLAN,
                LEASE_0,
                ROUND_0,
                (1, "lease", r#"{"round":2,"samples":"8+8"}"#),
                (1, "round", r#"{"round":2,"samples":"8+8"}"#),
            ],
            Some("where 1 would be next"),
        ),
        (
            "a gap",
            &[
                PLAN,
                (1, "lease", r#"{"round":0,"samples":"1+16"}"#),
                (1, "round", r#"{"round":0,"samples":"1+16"}"#),
            ],
            Some("1 samples below 17"),
        ),
        ("too few", &[PLAN, LEASE_0, ROUND_0], Some("8 samples were consumed where 16 were planned")),
        (
            "never committed",
            &[PLAN, LEASE_0, ROUND_0, LEASE_1],
            Some("round 1 was leased and never committed"),
        ),
        (
            "more than leased",
            &[
                PLAN,
                (1, "lease", r#"{"round":0,"samples":"0+15"}"#),
                (1, "round", r#"{"round":0,"samples":"0+16"}"#),
            ],
            Some("1 samples that were not leased"),
        ),
        ("garbage", &[PLAN, (1, "lease", "?"), LEASE_0, ROUND_0, LEASE_1, ROUND_1], Some("can't be read")),
        ("nothing", &[], Some("no round was committed")),
    ];
    for (name, records, expected) in table {
        let audit = audit(records);
        let said = audit.stages[0].violations.join("; ");
        match expected {
            None => assert!(audit.holds(), "{name}: {said}"),
            Some(expected) => assert!(!audit.holds() && said.contains(expected), "{name}: {said}"),
        }
    }
    let killed = audit(&[PLAN, LEASE_0, ROUND_0, LEASE_1, again("lease"), again("round")]);
    let stage = &killed.stages[0];
    assert_eq!((stage.rounds, stage.leases, stage.returned, stage.attempts), (2, 3, 8, 2));
    assert_eq!((stage.consumed.to_string().as_str(), stage.planned), ("0+16", 16));
}
