//! How attempts start and end.

use super::*;
use muster_protocol::bus::Rendezvous;
use muster_protocol::spec::BuiltinWork;

#[tokio::test]
async fn each_kind_of_end_has_its_outcome() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.run("exit 0").await.word(), "succeeded");
    assert_eq!(
        fixture.run("echo early; echo 'last words' >&2; exit 3").await,
        failed(Some(3), None, "exit code 3: last words")
    );
    assert_eq!(fixture.run("kill -SEGV $$").await, failed(None, Some(11), "killed by SIGSEGV"));
    let mut reason = async |work| {
        fixture.attempts.start(launch(work));
        match fixture.end().await {
            Outcome::NotStarted(reason) => reason.message,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        reason(Work::Process(process(&["no-such-program", "x"]))).await,
        "no such program: no-such-program"
    );
    assert_eq!(
        reason(Work::Process(process(&["/etc/passwd"]))).await,
        "not a program that may be run: /etc/passwd"
    );
    let nowhere = ProcessWork { cwd: "/no/such/place".into(), ..process(&["true"]) };
    assert_eq!(reason(Work::Process(nowhere)).await, "no such directory: /no/such/place");
    let builtin =
        reason(Work::Builtin(BuiltinWork { executor: "train".into(), params: String::new() })).await;
    let expected = "no such program: /no/such/program";
    assert!(builtin.starts_with(expected), "{builtin}");
}

#[tokio::test]
async fn an_attempt_gets_its_environment() {
    let mut fixture = Fixture::new();
    let mut gang = shell("pwd; env; test -s $MUSTER_LAUNCH && test -S $MUSTER_SOCKET && test ! -t 0");
    gang.gang = Some(Rendezvous { formation: 5, address: "10.0.0.9".into(), port: 29_401 });
    if let Work::Process(work) = &mut gang.work {
        work.env = vec![
            ("MINE".into(), "yes".into()),
            ("OMP_NUM_THREADS".into(), "1".into()),
            ("MUSTER_TASK".into(), "forged".into()),
        ];
    }
    fixture.attempts.start(gang);
    assert_eq!(fixture.end().await.word(), "succeeded", "{}", fixture.output(Stream::Stderr));
    let text = fixture.output(Stream::Stdout);
    let scratch = fixture.directory.join("job-42.7-2/scratch");
    let scratch = format!("MUSTER_SCRATCH={}", scratch.display());
    let expected = [
        "MINE=yes",
        "OMP_NUM_THREADS=1",
        "MUSTER_CLUSTER=test",
        "MUSTER_ADDRESS=10.0.0.8",
        "MUSTER_JOB=job-42",
        "MUSTER_JOB_NAME=night run",
        "MUSTER_STAGE=train",
        "MUSTER_TASK=job-42.7",
        "MUSTER_ATTEMPT=job-42.7#2",
        "MUSTER_EPOCH=2",
        "MUSTER_ARRAY_INDEX=12",
        "MUSTER_RANK=3",
        "MUSTER_WORLD_SIZE=4",
        "MUSTER_RENDEZVOUS=10.0.0.9:29401",
        "MUSTER_FORMATION=5",
        r#"MUSTER_PARAMS={"a":1,"b":2}"#,
        "MUSTER_ARTIFACTS=/artifacts",
        "MUSTER_JOB_DIR=/artifacts/jobs/test/job-42",
        "RANK=3",
        "WORLD_SIZE=4",
        "LOCAL_RANK=0",
        "MASTER_ADDR=10.0.0.9",
        "MASTER_PORT=29401",
        "CUDA_VISIBLE_DEVICES=1,3",
        &scratch,
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
    }
    assert_eq!(Some(text.lines().next().unwrap()), scratch.strip_prefix("MUSTER_SCRATCH="));
    fixture.run("echo RANK=$RANK WORLD_SIZE=$WORLD_SIZE MASTER=$MASTER_ADDR OMP=$OMP_NUM_THREADS").await;
    assert_eq!(
        fixture.output(Stream::Stdout),
        "RANK=0 WORLD_SIZE=1 MASTER= OMP=2\n",
        "a task of an array is alone in its world"
    );
}

#[tokio::test]
async fn no_process_of_a_group_survives() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.run("sleep 1000 & echo $!").await.word(), "succeeded");
    let left = fixture.lines(1).await;
    await_gone(&[pid(&left[0])]);
}

#[tokio::test]
async fn a_group_gets_sigterm_and_then_sigkill() {
    let mut fixture = Fixture::new();
    fixture.start(shell("trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done")).await;
    fixture.lines(1).await;
    fixture.attempts.signal(attempt(), 60_000);
    let end = fixture.end().await;
    assert!(end.message().starts_with("exit code 4"), "{end:?}");
    assert_eq!(fixture.lines(2).await, ["ready", "bye"]);

    fixture.start(shell("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000")).await;
    let child = fixture.lines(1).await;
    fixture.attempts.signal(attempt(), 60_000);
    fixture.attempts.signal(attempt(), 100);
    assert_eq!(
        fixture.end().await,
        failed(None, Some(9), "killed by SIGKILL"),
        "a later signal shortens the grace"
    );
    await_gone(&[pid(&child[0])]);
}
