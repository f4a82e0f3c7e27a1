//! Calls of attempts through their workers, and tails of outputs through the leader.

use super::cluster::{Cluster, submit};
use crate::{Input, Output};
use muster_protocol::attempt_call::{AddChildren, CallAnswer, CallRequest, FindStage, Seal};
use muster_protocol::bus::{Call, Down, LogChunk, Stream, Tail, Up};
use muster_protocol::command::Command;
use muster_protocol::envelope::TasksAdded;
use muster_protocol::ids::{AttemptId, BootId, JobId, RaftId, RequestId, StageIndex, TaskId, WorkerIdentity};
use muster_protocol::resources::Resources;
use muster_protocol::spec::ChildSpec;
use muster_protocol::worker::WorkerHello;
use std::collections::BTreeMap;

const ATTEMPT: AttemptId = AttemptId { task: TaskId { job: JobId(1), index: 0 }, epoch: 1 };

/// A worker that runs one attempt of a job with an open stage.
fn running() -> (Cluster, RaftId) {
    let mut cluster = Cluster::new(1, |_| ());
    let leader = cluster.elect();
    let hello = WorkerHello {
        identity: WorkerIdentity(1),
        boot: BootId(1),
        name: "w".to_string(),
        address: "127.0.0.1".to_string(),
        rendezvous_port_first: 0,
        rendezvous_ports: 0,
        capacity: Resources { cpu_milli: 1_000, ..Resources::default() },
        gpus: Vec::new(),
        labels: BTreeMap::new(),
        queue: 0,
        version: "0".to_string(),
    };
    cluster.up(1, 1, Up::Hello(hello));
    let mut envelope = submit(1, 1);
    if let Command::SubmitJob(submit) = &mut envelope.command {
        let mut open = submit.spec.stages[0].clone();
        (open.name, open.tasks, open.open) = ("children".to_string(), 0, true);
        submit.spec.stages.push(open);
    }
    cluster.ask(leader, envelope);
    assert!(matches!(cluster.heard().last(), Some(Down::Run(_))));
    (cluster, leader)
}

fn ask(cluster: &mut Cluster, id: u128, request: CallRequest) -> Vec<CallAnswer> {
    cluster.up(1, 1, Up::Call(Call { id: RequestId(id), attempt: ATTEMPT, request }));
    let said = cluster.heard().into_iter();
    let answers = said.filter_map(|down| if let Down::Answer(answer) = down { Some(answer) } else { None });
    answers.inspect(|answer| assert_eq!(answer.id, RequestId(id))).map(|answer| answer.answer).collect()
}

#[test]
fn an_attempt_reads_adds_and_seals() {
    let (mut cluster, _) = running();
    let find = CallRequest::FindStage(FindStage { name: "children".to_string() });
    assert!(
        matches!(ask(&mut cluster, 1, find)[..], [CallAnswer::Found(found)] if found.stage == StageIndex(1))
    );
    let child = || ChildSpec { stage: StageIndex(1), params: String::new(), after: Vec::new() };
    let add = || CallRequest::AddChildren(AddChildren { children: vec![child(), child()] });
    let added = [CallAnswer::Added(TasksAdded { first: 1, count: 2 })];
    assert_eq!(ask(&mut cluster, 2, add()), added);
    assert_eq!(ask(&mut cluster, 2, add()), added, "asked again, since the answer was lost");
    let seal = || CallRequest::Seal(Seal { stage: StageIndex(1) });
    assert!(matches!(ask(&mut cluster, 3, seal())[..], [CallAnswer::Sealed(_)]));
    assert!(matches!(ask(&mut cluster, 4, add())[..], [CallAnswer::Rejected(_)]));
}

struct Reader {
    cluster: Cluster,
    leader: RaftId,
}

impl Reader {
    fn drive(&mut self, input: Input) -> (Vec<Tail>, Vec<(u64, String, bool)>) {
        let now = self.cluster.now();
        let replica = self.cluster.members.get_mut(&self.leader).unwrap().replica.as_mut().unwrap();
        let (mut told, mut read) = (Vec::new(), Vec::new());
        replica.handle(now, input, &mut |output| {
            if let Output::Tail(chunk) = output {
                read.push((chunk.offset, String::from_utf8(chunk.bytes).unwrap() + &chunk.error, chunk.end));
            } else if let Output::Down { envelope, .. } = output
                && let Down::Tail(tail) = envelope.message
            {
                told.push(tail);
            }
        });
        (told, read)
    }

    fn open(
        &mut self,
        attempt: AttemptId,
        offset: u64,
        credit_bytes: u64,
    ) -> (Vec<Tail>, Vec<(u64, String, bool)>) {
        let (id, stream) = (RequestId(9), Stream::Stdout);
        self.drive(Input::OpenTail { id, attempt, stream, offset, follow: true, credit_bytes })
    }

    fn chunk(&mut self, offset: u64, text: &str, end: bool) -> (Vec<Tail>, Vec<(u64, String, bool)>) {
        let chunk = LogChunk {
            tail: RequestId(9),
            attempt: ATTEMPT,
            offset,
            bytes: text.into(),
            end,
            error: String::new(),
        };
        let (identity, boot) = (WorkerIdentity(1), BootId(1));
        let up = muster_protocol::bus::UpEnvelope {
            cluster: "test".to_string(),
            identity,
            boot,
            trace: String::new(),
            message: Up::LogChunk(chunk),
        };
        self.drive(Input::Up(Box::new(up)))
    }
}

#[test]
fn output_is_passed_on_once_and_in_order_and_gaps_are_requested_again() {
    let (cluster, leader) = running();
    let mut reader = Reader { cluster, leader };
    let spans = |told: Vec<Tail>| -> Vec<(u64, u64)> {
        told.iter().map(|tail| (tail.offset, tail.credit_bytes)).collect()
    };
    assert_eq!(spans(reader.open(ATTEMPT, 0, 10).0), [(0, 10)]);
    assert_eq!(reader.chunk(0, "abc", false).1, [(0, "abc".to_string(), false)]);
    assert_eq!(reader.chunk(1, "bcd", false).1, [(3, "d".to_string(), false)]);
    assert_eq!(reader.chunk(1, "bcd", false).1, []);
    let (told, read) = reader.chunk(6, "gh", false);
    assert_eq!((spans(told), read), (vec![(4, 6)], vec![]), "a gap");
    assert_eq!(reader.chunk(4, "efgh", false).1, [(4, "efgh".to_string(), false)]);
    assert_eq!(spans(reader.open(ATTEMPT, 8, 10).0), [(8, 10)], "more credit");
    reader.cluster.mono_ms += 1_000;
    assert_eq!(spans(reader.drive(Input::Tick).0), [(8, 10)], "requested again");
    assert_eq!(reader.chunk(8, "", true).1, [(8, String::new(), true)]);
    assert_eq!(reader.chunk(8, "", true).1, []);
}

#[test]
fn bytes_that_the_worker_dropped_are_skipped_after_a_while() {
    let (cluster, leader) = running();
    let mut reader = Reader { cluster, leader };
    reader.open(ATTEMPT, 0, 100);
    assert_eq!(reader.chunk(50, "late", false).1, []);
    reader.cluster.mono_ms += 3_000;
    assert_eq!(reader.chunk(50, "late", false).1, [(50, "late".to_string(), false)]);
}

#[test]
fn an_output_without_a_known_worker_ends_with_a_reason() {
    let (cluster, leader) = running();
    let mut reader = Reader { cluster, leader };
    let (_, read) = reader.open(AttemptId { epoch: 9, ..ATTEMPT }, 0, 10);
    assert!(matches!(&read[..], [(0, why, true)] if why.contains("no worker is known")), "{read:?}");
}
