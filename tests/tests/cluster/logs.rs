//! The output of attempts, live and afterwards.

use crate::{await_end, leader_api};
use muster_tests::cluster::api::{job_of, new_request, process_of, stage_of};
use muster_tests::cluster::{Cluster, Shape};

#[test]
fn output_is_followed_live_and_read_afterwards_byte_by_byte() {
    let cluster = Cluster::start(Shape { coordinators: 3, workers: 1, ..Shape::default() }).unwrap();
    let script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); [ $((i % 500)) -eq 0 ] && sleep 0.2; done; echo warned >&2";
    let job = leader_api(&cluster)
        .submit(&job_of("talker", stage_of("only", 1, process_of(&["sh", "-c", script]))), new_request())
        .unwrap();
    let expected: String = (0..2000).map(|n| format!("line {n}\n")).collect();
    let follower = (0..3).find(|index| *index != cluster.leader()).unwrap();
    let followed = cluster.muster_at(follower, &["logs", &format!("{job}.0"), "-f"]);
    assert_eq!(followed.status.code(), Some(0), "{}", String::from_utf8_lossy(&followed.stderr));
    assert_eq!(String::from_utf8_lossy(&followed.stdout), expected);
    await_end(&cluster, job);
    let read = cluster.muster(&["logs", &format!("{job}.0")]);
    assert_eq!(String::from_utf8_lossy(&read.stdout), expected);
    let warned = cluster.muster(&["logs", &format!("{job}.0"), "--stderr"]);
    assert_eq!(String::from_utf8_lossy(&warned.stdout), "warned\n");
}
