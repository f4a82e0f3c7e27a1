//! Workers from the leader's view: registration, leases, dispatch, reports, stops.

use super::cluster::{Cluster, cancel, submit};
use muster_machine::views;
use muster_protocol::bus::{Down, Draining, Heartbeat, Held, Phase, Progress, Reports, Up};
use muster_protocol::ids::{AttemptId, BootId, Digest, JobId, RaftId, TaskId, WorkerIdentity};
use muster_protocol::limits::{WORKER_LEASE_MS, WORKER_SUSPECT_MS};
use muster_protocol::outcome::{Outcome, Reason, Succeeded, Terminal};
use muster_protocol::resources::Resources;
use muster_protocol::worker::{Ended, Liveness, ProgressRecord, Report, ReportKind, Started, WorkerHello};
use std::collections::BTreeMap;

fn hello(worker: u128, boot: u128) -> Up {
    Up::Hello(WorkerHello {
        identity: WorkerIdentity(worker),
        boot: BootId(boot),
        name: format!("w{worker}"),
        address: "127.0.0.1".to_string(),
        rendezvous_port_first: 0,
        rendezvous_ports: 0,
        capacity: Resources { cpu_milli: 2_000, ..Resources::default() },
        gpus: Vec::new(),
        labels: BTreeMap::new(),
        queue: 0,
        version: "0".to_string(),
    })
}

fn heartbeat(sent_ms: u64, held: &[(AttemptId, Phase)]) -> Up {
    let held = held.iter().map(|(attempt, phase)| Held { attempt: *attempt, phase: *phase }).collect();
    Up::Heartbeat(Heartbeat { sent_ms, cpu_milli: 0, memory_mib: 0, held, down_received: 0 })
}

fn attempt(job: u64, index: u32, epoch: u32) -> AttemptId {
    AttemptId { task: TaskId { job: JobId(job), index }, epoch }
}

fn started(attempt: AttemptId) -> Report {
    Report { attempt, what: ReportKind::Started(Started { pid: 7 }) }
}

fn ended(attempt: AttemptId, outcome: Outcome) -> Report {
    Report { attempt, what: ReportKind::Ended(Ended { outcome, run_ms: 1 }) }
}

fn succeeded(attempt: AttemptId) -> Report {
    ended(attempt, Outcome::Succeeded(Succeeded::default()))
}

fn reports(first_seq: u64, oldest_unacked: u64, reports: Vec<Report>) -> Up {
    Up::Reports(Reports { first_seq, oldest_unacked, reports })
}

/// Messages to workers, in short.
fn words(said: &[Down]) -> Vec<String> {
    let word = |down: &Down| match down {
        Down::Welcome(welcome) => format!("welcome {}", welcome.worker),
        Down::HeartbeatAck(ack) => format!("heard {}", ack.sent_ms),
        Down::SayHello(_) => "say hello".to_string(),
        Down::Run(run) => {
            let attempts: Vec<String> =
                run.launches.iter().map(|launch| launch.attempt.to_string()).collect();
            format!("run {}", attempts.join(" "))
        }
        Down::Stop(stop) => format!("stop {} {} {}", stop.attempt, stop.outcome.word(), stop.grace_ms),
        Down::Ack(ack) => format!("ack {} {}", ack.reports, ack.progress),
        Down::Answer(_) => "answer".to_string(),
        Down::Tail(_) => "tail".to_string(),
        Down::EndTail(_) => "end tail".to_string(),
    };
    said.iter().map(word).collect()
}

struct Bench {
    cluster: Cluster,
    leader: RaftId,
}

impl Bench {
    fn new() -> Bench {
        let mut cluster = Cluster::new(3, |_| ());
        let leader = cluster.elect();
        Bench { cluster, leader }
    }

    /// Sends a message from the worker, and returns what it receives.
    fn up(&mut self, boot: u128, message: Up) -> Vec<String> {
        self.cluster.up(1, boot, message);
        words(&self.cluster.heard())
    }

    fn heard(&mut self) -> Vec<String> {
        words(&self.cluster.heard())
    }

    /// Lets time pass, while the worker's heartbeats hold these attempts.
    fn live_ms(&mut self, boot: u128, ms: u64, held: &[(AttemptId, Phase)]) -> Vec<String> {
        let mut heard = Vec::new();
        for _ in 0..ms / 300 {
            self.cluster.run_ms(300);
            let sent_ms = self.cluster.mono_ms;
            let said = self.up(boot, heartbeat(sent_ms, held));
            heard.extend(said.into_iter().filter(|word| !word.starts_with("heard")));
        }
        heard
    }

    fn liveness(&self) -> Liveness {
        self.cluster.replica(self.leader).state().worker_by_identity(WorkerIdentity(1)).unwrap().liveness()
    }

    fn terminal(&self, job: u64) -> Option<Terminal> {
        views::job(self.cluster.replica(self.leader).state(), JobId(job)).unwrap().terminal
    }
}

#[test]
fn a_worker_registers_runs_and_reports() {
    let mut bench = Bench::new();
    assert_eq!(bench.up(1, heartbeat(5, &[])), ["say hello"]);
    assert_eq!(bench.up(1, hello(1, 1)), ["welcome worker-1"]);
    assert_eq!(bench.up(1, hello(1, 1)), ["welcome worker-1"], "sent again");
    assert_eq!(bench.up(1, heartbeat(6, &[])), ["heard 6"]);
    bench.cluster.ask(bench.leader, submit(1, 3));
    assert_eq!(bench.heard(), ["run job-1.0#1 job-1.1#1"], "two fit");
    let (a, b, c) = (attempt(1, 0, 1), attempt(1, 1, 1), attempt(1, 2, 1));
    assert_eq!(
        bench.up(1, reports(1, 1, vec![started(a), started(b), succeeded(a)])),
        ["ack 3 0", "run job-1.2#1"]
    );
    assert_eq!(
        bench.up(1, reports(1, 1, vec![started(a), started(b), succeeded(a)])),
        ["ack 3 0"],
        "a repeat is acknowledged again"
    );
    assert_eq!(bench.up(1, reports(5, 4, vec![succeeded(b)])), [""; 0], "a gap is not");
    assert_eq!(bench.up(1, reports(3, 3, vec![succeeded(a), succeeded(b), succeeded(c)])), ["ack 5 0"]);
    assert_eq!(bench.terminal(1), Some(Terminal::Succeeded));
    bench.cluster.run_ms(300);
    bench.cluster.assert_agreement();
}

#[test]
fn lost_messages_to_a_worker_are_resent() {
    let mut bench = Bench::new();
    bench.up(1, hello(1, 1));
    bench.cluster.ask(bench.leader, submit(1, 1));
    let a = attempt(1, 0, 1);
    assert_eq!(bench.heard(), ["run job-1.0#1"]);
    assert_eq!(bench.live_ms(1, 300, &[]), [""; 0], "it may be on its way");
    assert_eq!(bench.live_ms(1, 300, &[]), ["run job-1.0#1"]);
    assert_eq!(bench.live_ms(1, 1_500, &[(a, Phase::Running)]), [""; 0]);
    bench.cluster.ask(bench.leader, cancel(1));
    assert_eq!(bench.heard(), ["stop job-1.0#1 cancelled 100"]);
    assert_eq!(bench.live_ms(1, 600, &[(a, Phase::Running)]), ["stop job-1.0#1 cancelled 100"]);
    assert_eq!(bench.live_ms(1, 1_500, &[(a, Phase::Stopping)]), [""; 0]);
    let cancelled = Outcome::Cancelled(Reason::default());
    assert_eq!(bench.up(1, reports(1, 1, vec![started(a), ended(a, cancelled)])), ["ack 2 0"]);
    assert_eq!(bench.terminal(1), Some(Terminal::Cancelled));
    assert_eq!(bench.live_ms(1, 1_500, &[(a, Phase::Ended)]), [""; 0]);
}

#[test]
fn a_new_leader_loses_nothing_and_restarts_nothing() {
    let mut bench = Bench::new();
    bench.up(1, hello(1, 1));
    bench.cluster.ask(bench.leader, submit(1, 3));
    let (a, b, c) = (attempt(1, 0, 1), attempt(1, 1, 1), attempt(1, 2, 1));
    bench.up(1, reports(1, 1, vec![started(a), started(b)]));
    bench.cluster.crash(bench.leader);
    bench.cluster.until("another leads", |cluster| cluster.leader().is_some());
    bench.leader = bench.cluster.leader().unwrap();
    bench.heard();
    assert_eq!(bench.live_ms(1, 3_000, &[(a, Phase::Running), (b, Phase::Running)]), [""; 0]);
    // Report 3 was never acknowledged; the new leader accepts from the oldest.
    assert_eq!(bench.up(1, reports(4, 3, vec![started(a)])), [""; 0]);
    assert_eq!(bench.up(1, reports(3, 3, vec![succeeded(a)])), ["ack 3 0", "run job-1.2#1"]);
    assert_eq!(bench.up(1, reports(4, 4, vec![succeeded(b), succeeded(c)])), ["ack 5 0"]);
    assert_eq!(bench.terminal(1), Some(Terminal::Succeeded));
}

#[test]
fn a_silent_worker_is_suspect_then_lost_and_returns_without_its_attempts() {
    let mut bench = Bench::new();
    bench.up(1, hello(1, 1));
    bench.cluster.ask(bench.leader, submit(1, 1));
    bench.heard();
    let a = attempt(1, 0, 1);
    bench.up(1, reports(1, 1, vec![started(a)]));
    bench.cluster.run_ms(WORKER_SUSPECT_MS + 100);
    assert_eq!(bench.liveness(), Liveness::Suspect);
    let now = bench.cluster.mono_ms;
    assert_eq!(bench.up(1, heartbeat(now, &[(a, Phase::Running)])), [format!("heard {now}")]);
    assert_eq!(bench.liveness(), Liveness::Alive);
    bench.cluster.run_ms(WORKER_LEASE_MS - 100);
    assert_eq!(bench.liveness(), Liveness::Suspect);
    bench.cluster.run_ms(200);
    assert_eq!(bench.liveness(), Liveness::Lost);
    // It lives after all, but its lease is over, and so is its attempt.
    assert_eq!(bench.up(1, heartbeat(7, &[(a, Phase::Running)])), ["say hello"]);
    assert_eq!(bench.up(1, reports(2, 2, vec![succeeded(a)])), ["say hello"]);
    let said = bench.up(1, hello(1, 1));
    assert_eq!(said, ["welcome worker-1", "run job-1.0#2"]);
    assert_eq!(bench.liveness(), Liveness::Alive);
    let second = attempt(1, 0, 2);
    let said = bench.live_ms(1, 300, &[(a, Phase::Running), (second, Phase::Running)]);
    assert_eq!(said, ["stop job-1.0#1 lost 0"]);
    assert_eq!(bench.up(1, reports(2, 2, vec![succeeded(a)])), ["ack 2 0"], "absorbed, and acknowledged");
    assert_eq!(bench.terminal(1), None);
    assert_eq!(bench.up(1, reports(3, 3, vec![started(second), succeeded(second)])), ["ack 4 0"]);
    assert_eq!(bench.terminal(1), Some(Terminal::Succeeded));
}

#[test]
fn a_new_incarnation_replaces_the_old_one_for_good() {
    let mut bench = Bench::new();
    bench.up(1, hello(1, 1));
    bench.cluster.ask(bench.leader, submit(1, 1));
    bench.heard();
    assert_eq!(bench.up(2, hello(1, 2)), ["welcome worker-1", "run job-1.0#2"]);
    assert_eq!(bench.up(1, hello(1, 1)), [""; 0], "a late message of the old incarnation");
    assert_eq!(bench.up(1, heartbeat(1, &[])), [""; 0]);
    assert_eq!(bench.up(1, reports(1, 1, vec![succeeded(attempt(1, 0, 1))])), [""; 0]);
    assert_eq!(bench.live_ms(2, 900, &[(attempt(1, 0, 2), Phase::Running)]), [""; 0]);
}

#[test]
fn a_leader_without_a_majority_extends_no_lease_and_declares_no_worker_lost() {
    let mut bench = Bench::new();
    bench.up(1, hello(1, 1));
    let leader = bench.leader;
    bench.cluster.ids().into_iter().filter(|id| *id != leader).for_each(|id| {
        bench.cluster.cut.insert(id);
    });
    bench.cluster.run_ms(550);
    assert_eq!(bench.up(1, heartbeat(9, &[])), [""; 0], "it may be deposed already");
    assert_eq!(bench.up(1, hello(1, 1)), [""; 0]);
}

#[test]
fn progress_has_its_own_sequence() {
    let mut bench = Bench::new();
    bench.up(1, hello(1, 1));
    bench.cluster.ask(bench.leader, submit(1, 1));
    bench.heard();
    let a = attempt(1, 0, 1);
    let record = |seq| ProgressRecord {
        attempt: a,
        key: "train".to_string(),
        seq,
        payload_hash: Digest::default(),
        body: "{}".to_string(),
    };
    let progress =
        |first_seq, records| Up::Progress(Progress { first_seq, oldest_unacked: first_seq, records });
    bench.up(1, reports(1, 1, vec![started(a)]));
    assert_eq!(bench.up(1, progress(1, vec![record(1), record(2)])), ["ack 1 2"]);
    assert_eq!(bench.up(1, progress(3, vec![record(3)])), ["ack 1 3"]);
    let page = views::tasks(bench.cluster.replica(bench.leader).state(), JobId(1), 0, 1).unwrap();
    assert_eq!(page.tasks[0].progress["train"].seq, 3);
}

#[test]
fn a_draining_worker_gets_no_new_work() {
    let mut bench = Bench::new();
    bench.up(1, hello(1, 1));
    bench.up(1, Up::Draining(Draining {}));
    bench.up(1, Up::Draining(Draining {}));
    bench.cluster.ask(bench.leader, submit(1, 1));
    assert_eq!(bench.heard(), [""; 0]);
    assert!(
        bench
            .cluster
            .replica(bench.leader)
            .state()
            .worker_by_identity(WorkerIdentity(1))
            .unwrap()
            .is_draining()
    );
}
