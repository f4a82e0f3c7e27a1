//! Attempts as real processes. Tests wait for a report, for output, or for the end of a process, not for a
//! time to pass.

mod agent_death;
mod ends;
mod tails;

use super::environment::SpawnEnv;
use super::output::{self, ReadOutput};
use super::processes::AttemptProcesses;
use super::reaper::ProcessReaper;
use crate::machine::AgentInput;
use muster_protocol::bus::{Launch, Stream};
use muster_protocol::ids::{AttemptId, JobId, StageIndex, TaskId};
use muster_protocol::outcome::{Failed, Outcome};
use muster_protocol::resources::{Grant, Resources};
use muster_protocol::spec::{OnPartition, ProcessWork, Work};
use rustix::process::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// After this time without progress, a test fails.
const STALLED: Duration = Duration::from_secs(30);

struct Fixture {
    attempts: AttemptProcesses,
    received: mpsc::Receiver<AgentInput>,
    directory: PathBuf,
    _temp: Option<TempDir>,
}

impl Fixture {
    fn new() -> Fixture {
        let temp = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::at(temp.path());
        fixture._temp = Some(temp);
        fixture
    }

    fn at(directory: &Path) -> Fixture {
        let (inputs, received) = mpsc::channel(64);
        let directory = directory.canonicalize().unwrap().join("attempts");
        fs::create_dir_all(&directory).unwrap();
        let env = SpawnEnv {
            cluster: "test".into(),
            address: "10.0.0.8".into(),
            artifacts: "/artifacts".into(),
            executor_program: "/no/such/program".into(),
        };
        let attempts =
            AttemptProcesses::new(directory.clone(), env, ProcessReaper::start().unwrap(), inputs).unwrap();
        Fixture { attempts, received, directory, _temp: None }
    }

    async fn next_input(&mut self) -> AgentInput {
        timeout(STALLED, self.received.recv()).await.expect("there is progress").unwrap()
    }

    /// The attempt's end. Tests reuse its id, which a leader never does, so this also waits for its cleanup.
    async fn end(&mut self) -> Outcome {
        let outcome = loop {
            if let AgentInput::Exited { outcome, .. } = self.next_input().await {
                break outcome;
            }
        };
        let until = Instant::now() + STALLED;
        while self.attempts.context().paths(attempt()).scratch.exists() {
            assert!(Instant::now() < until, "its scratch directory is still there");
            sleep(Duration::from_millis(10)).await;
        }
        outcome
    }

    /// Starts it, and waits until it runs.
    async fn start(&mut self, launch: Launch) {
        self.attempts.start(launch);
        assert!(matches!(self.next_input().await, AgentInput::Started { .. }));
    }

    async fn run(&mut self, script: &str) -> Outcome {
        self.attempts.start(shell(script));
        self.end().await
    }

    fn output(&self, stream: Stream) -> String {
        match output::read(&self.attempts.context().paths(attempt()).directory, stream, 0, 1 << 20) {
            Ok(ReadOutput::Bytes(bytes)) => String::from_utf8(bytes).unwrap(),
            Ok(ReadOutput::AtEnd) | Err(_) => String::new(),
            Ok(found @ ReadOutput::Removed { .. }) => panic!("{found:?}"),
        }
    }

    /// Waits until the attempt has written `count` lines.
    async fn lines(&self, count: usize) -> Vec<String> {
        let until = Instant::now() + STALLED;
        loop {
            let lines: Vec<_> = self.output(Stream::Stdout).lines().map(str::to_string).collect();
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
    ProcessWork {
        argv: argv.iter().map(|argument| argument.to_string()).collect(),
        env: vec![],
        cwd: String::new(),
    }
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

/// Ended, reaped or not.
fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| {
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
    })
}

fn await_gone(pids: &[Pid]) {
    let until = std::time::Instant::now() + STALLED;
    while !pids.iter().all(|pid| is_gone(*pid)) {
        assert!(std::time::Instant::now() < until, "still there: {pids:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
