//! Attempts as real processes. Waiting is for progress only: for a report, for output, for a process to be
//! gone.

use super::*;
use muster_protocol::bus::{LogChunk, Rendezvous, Tail};
use muster_protocol::ids::{JobId, RequestId, StageIndex, TaskId};
use muster_protocol::outcome::{Failed, Outcome};
use muster_protocol::resources::{Grant, Resources};
use muster_protocol::spec::{BuiltinWork, OnPartition, ProcessWork, Work};
use output::Piece;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Without progress for so long, a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names the directory of a helper process, which is an agent that the tests kill or freeze.
const HELPER: &str = "MUSTER_TEST_AGENT";

struct Rig {
    attempts: Attempts,
    heard: mpsc::Receiver<Input>,
    directory: PathBuf,
    _temp: Option<TempDir>,
}

impl Rig {
    fn new() -> Rig {
        let temp = tempfile::tempdir().unwrap();
        let mut rig = Rig::at(temp.path());
        rig._temp = Some(temp);
        rig
    }

    fn at(directory: &Path) -> Rig {
        let (inputs, heard) = mpsc::channel(64);
        let directory = directory.canonicalize().unwrap().join("attempts");
        fs::create_dir_all(&directory).unwrap();
        let surroundings = Surroundings {
            cluster: "test".into(),
            address: "10.0.0.8".into(),
            artifacts: "/artifacts".into(),
            executor_program: "/no/such/program".into(),
        };
        let attempts =
            Attempts::new(directory.clone(), surroundings, Warden::start().unwrap(), inputs).unwrap();
        Rig { attempts, heard, directory, _temp: None }
    }

    async fn hear(&mut self) -> Input {
        timeout(PATIENCE, self.heard.recv()).await.expect("there is progress").unwrap()
    }

    /// The attempt's end. Its id is used again here, as never by a leader: so its things must be cleaned up
    /// before.
    async fn end(&mut self) -> Outcome {
        let outcome = loop {
            if let Input::Exited { outcome, .. } = self.hear().await {
                break outcome;
            }
        };
        let until = Instant::now() + PATIENCE;
        while self.attempts.shared.places(attempt()).scratch.exists() {
            assert!(Instant::now() < until, "its scratch directory stays");
            sleep(Duration::from_millis(10)).await;
        }
        outcome
    }

    /// Starts it, and waits until it runs.
    async fn start(&mut self, launch: Launch) {
        self.attempts.start(launch);
        assert!(matches!(self.hear().await, Input::Started { .. }));
    }

    async fn run(&mut self, script: &str) -> Outcome {
        self.attempts.start(shell(script));
        self.end().await
    }

    fn said(&self, stream: Stream) -> String {
        match output::read(&self.attempts.shared.places(attempt()).directory, stream, 0, 1 << 20) {
            Ok(Piece::Bytes(bytes)) => String::from_utf8(bytes).unwrap(),
            Ok(Piece::AtEnd) | Err(_) => String::new(),
            Ok(piece @ Piece::Dropped { .. }) => panic!("{piece:?}"),
        }
    }

    /// Waits until the attempt has written so many lines.
    async fn lines(&self, count: usize) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let lines: Vec<_> = self.said(Stream::Stdout).lines().map(str::to_string).collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(Instant::now() < until, "no output: {lines:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn attempt() -> AttemptId {
    AttemptId { task: TaskId { job: JobId(42), index: 7 }, epoch: 2 }
}

fn launch(work: Work) -> Launch {
    Launch {
        attempt: attempt(),
        job_name: "night run".into(),
        stage: StageIndex(1),
        stage_name: "train".into(),
        work,
        job_params: r#"{"a":1,"b":1}"#.into(),
        child_params: r#"{"b":2}"#.into(),
        array_index: 12,
        rank: 3,
        world: 4,
        gang: None,
        request: Resources { cpu_milli: 2_500, ..Resources::default() },
        grant: Grant { gpus: vec![1, 3] },
        queued: false,
        grace_ms: 0,
        on_partition: OnPartition::Stop,
    }
}

fn process(argv: &[&str]) -> ProcessWork {
    ProcessWork { argv: argv.iter().map(|word| word.to_string()).collect(), env: vec![], cwd: String::new() }
}

fn shell(script: &str) -> Launch {
    launch(Work::Process(process(&["sh", "-c", script])))
}

fn failed(exit_code: Option<i32>, signal: Option<i32>, message: &str) -> Outcome {
    Outcome::Failed(Failed { exit_code, signal, message: message.into() })
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().expect("a process id")).expect("not 0")
}

/// Gone, or dead and only not yet reaped by whoever inherited it.
fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| {
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
    })
}

fn await_gone(pids: &[Pid]) {
    let until = std::time::Instant::now() + PATIENCE;
    while !pids.iter().all(|pid| is_gone(*pid)) {
        assert!(std::time::Instant::now() < until, "still there: {pids:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn ends_are_told_apart() {
    let mut rig = Rig::new();
    assert_eq!(rig.run("exit 0").await.word(), "succeeded");
    assert_eq!(
        rig.run("echo early; echo 'last words' >&2; exit 3").await,
        failed(Some(3), None, "exit code 3: last words")
    );
    assert_eq!(rig.run("kill -SEGV $$").await, failed(None, Some(11), "killed by SIGSEGV"));
    let mut reason = async |work| {
        rig.attempts.start(launch(work));
        match rig.end().await {
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
async fn an_attempt_finds_its_environment() {
    let mut rig = Rig::new();
    let mut gang = shell("pwd; env; test -s $MUSTER_LAUNCH && test -S $MUSTER_SOCKET && test ! -t 0");
    gang.gang = Some(Rendezvous { formation: 5, address: "10.0.0.9".into(), port: 29_401 });
    if let Work::Process(work) = &mut gang.work {
        work.env = vec![
            ("MINE".into(), "yes".into()),
            ("OMP_NUM_THREADS".into(), "1".into()),
            ("MUSTER_TASK".into(), "forged".into()),
        ];
    }
    rig.attempts.start(gang);
    assert_eq!(rig.end().await.word(), "succeeded", "{}", rig.said(Stream::Stderr));
    let said = rig.said(Stream::Stdout);
    let scratch = rig.directory.join("job-42.7-2/scratch");
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
        assert!(said.lines().any(|said| said == line), "{line} is missing in {said}");
    }
    assert_eq!(Some(said.lines().next().unwrap()), scratch.strip_prefix("MUSTER_SCRATCH="));
    rig.run("echo RANK=$RANK WORLD_SIZE=$WORLD_SIZE MASTER=$MASTER_ADDR OMP=$OMP_NUM_THREADS").await;
    assert_eq!(
        rig.said(Stream::Stdout),
        "RANK=0 WORLD_SIZE=1 MASTER= OMP=2\n",
        "a task of an array is a world of its own"
    );
}

#[tokio::test]
async fn nothing_of_a_group_stays() {
    let mut rig = Rig::new();
    assert_eq!(rig.run("sleep 1000 & echo $!").await.word(), "succeeded");
    let left = rig.lines(1).await;
    await_gone(&[pid(&left[0])]);
}

#[tokio::test]
async fn a_group_is_asked_to_end_and_then_killed() {
    let mut rig = Rig::new();
    rig.start(shell("trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done")).await;
    rig.lines(1).await;
    rig.attempts.signal(attempt(), 60_000);
    let end = rig.end().await;
    assert!(end.message().starts_with("exit code 4"), "{end:?}");
    assert_eq!(rig.lines(2).await, ["ready", "bye"]);

    rig.start(shell("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000")).await;
    let child = rig.lines(1).await;
    rig.attempts.signal(attempt(), 60_000);
    rig.attempts.signal(attempt(), 100);
    assert_eq!(rig.end().await, failed(None, Some(9), "killed by SIGKILL"), "a later signal hastens it");
    await_gone(&[pid(&child[0])]);
}

/// Not a test of its own: the agent that the tests below kill or freeze.
#[tokio::test]
async fn helper_agent() {
    let Ok(directory) = std::env::var(HELPER) else { return };
    let mut rig = Rig::at(Path::new(&directory));
    rig.attempts.lease(60_000);
    rig.attempts.start(shell("sleep 1000 & echo $$ $!; wait"));
    let pids = rig.lines(1).await;
    if directory.ends_with("frozen") {
        rig.attempts.lease(200);
    }
    // Found by its words among whatever the test program prints.
    writeln!(io::stdout(), "the attempt has {}", pids[0]).unwrap();
    rig.end().await;
}

fn helper(directory: &Path) -> (Child, Vec<Pid>) {
    fs::create_dir_all(directory).unwrap();
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper
        .args(["--exact", "attempts::tests::helper_agent", "--nocapture"])
        .env(HELPER, directory)
        .stdout(Stdio::piped());
    let mut helper = helper.spawn().unwrap();
    let mut lines = BufReader::new(helper.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find_map(|line| line.split_once("the attempt has ").map(|(_, pids)| pids.to_string()));
    let pids = line.expect("the helper runs its attempt").split_whitespace().map(pid).collect();
    (helper, pids)
}

#[test]
fn what_a_killed_agent_ran_dies_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let (mut agent, pids) = helper(&temp.path().join("killed"));
    assert!(pids.len() == 2 && pids.iter().all(|pid| !is_gone(*pid)));
    agent.kill().unwrap();
    await_gone(&pids);
    agent.wait().unwrap();
}

#[test]
fn what_a_frozen_agent_runs_does_not_outlive_its_lease() {
    let temp = tempfile::tempdir().unwrap();
    let (mut agent, pids) = helper(&temp.path().join("frozen"));
    // It may have ended already: then the lease was enforced before the freeze, which is as well.
    let _ = kill_process(Pid::from_child(&agent), Signal::STOP);
    await_gone(&pids);
    let _ = kill_process(Pid::from_child(&agent), Signal::CONT);
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn leftovers_of_an_earlier_life_are_ended() {
    let temp = tempfile::tempdir().unwrap();
    let mark = temp.path().join("job-1.0-1/scratch");
    let start = |mark: &Path| Command::new("sleep").arg("1000").env("MUSTER_SCRATCH", mark).spawn().unwrap();
    let mut ours = start(&mark);
    let mut others = start(Path::new("/else/attempts/job-1.0-1/scratch"));
    end_leftovers(temp.path());
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ours.wait().unwrap()), Some(9));
    assert_eq!(others.try_wait().unwrap(), None);
    others.kill().unwrap();
    others.wait().unwrap();
}

fn tail(offset: u64, credit_bytes: u64, follow: bool) -> Tail {
    Tail { id: RequestId(1), attempt: attempt(), stream: Stream::Stdout, offset, follow, credit_bytes }
}

async fn next(chunks: &mut mpsc::Receiver<LogChunk>) -> LogChunk {
    timeout(PATIENCE, chunks.recv()).await.expect("there is progress").unwrap()
}

#[tokio::test]
async fn a_tail_sends_as_much_as_it_has_credit_for() {
    let mut rig = Rig::new();
    rig.run("head -c 200000 /dev/zero").await;
    let (sender, mut chunks) = mpsc::channel(16);
    let mut tails = Tails::new(rig.attempts.shared(), sender);
    tails.ask(tail(10, 100_000, false), false);
    let sizes = [next(&mut chunks).await, next(&mut chunks).await]
        .map(|chunk| (chunk.offset, chunk.bytes.len(), chunk.end));
    assert_eq!(sizes, [(10, 65_536, false), (65_546, 34_464, false)]);
    tails.ask(tail(100_010, 99_990, false), false);
    let mut offset = 100_010;
    loop {
        let chunk = next(&mut chunks).await;
        assert_eq!((chunk.offset, chunk.error.as_str()), (offset, ""));
        offset += chunk.bytes.len() as u64;
        if chunk.end {
            break;
        }
        tails.ask(tail(offset, 99_990, false), false);
    }
    assert_eq!(offset, 200_000);
    let nobody = AttemptId { epoch: 9, ..attempt() };
    tails.ask(Tail { id: RequestId(2), attempt: nobody, ..tail(0, 10, true) }, false);
    let chunk = next(&mut chunks).await;
    assert_eq!((chunk.end, chunk.error.as_str()), (true, "no output of job-42.7#9 is kept at this worker"));
}

#[tokio::test]
async fn a_tail_follows_from_before_the_start_to_the_end() {
    let mut rig = Rig::new();
    let (sender, mut chunks) = mpsc::channel(16);
    let mut tails = Tails::new(rig.attempts.shared(), sender);
    tails.ask(tail(0, 1_000, true), true);
    rig.attempts.start(shell("echo one; while [ ! -e go ]; do sleep 0.02; done; echo two"));
    assert_eq!(next(&mut chunks).await.bytes, b"one\n");
    fs::write(rig.directory.join("job-42.7-2/scratch/go"), "").unwrap();
    let two = next(&mut chunks).await;
    assert_eq!((two.offset, two.bytes.as_slice()), (4, b"two\n".as_slice()));
    let end = next(&mut chunks).await;
    assert_eq!((end.offset, end.end, end.error.as_str()), (8, true, ""));
}
