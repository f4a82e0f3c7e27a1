//! A cluster of replicas, whose time a test moves.

use super::memory_disk::MemoryDisk;
use crate::MemberConfig;
use crate::disk::Disk;
use crate::leadership::envelope;
use crate::{CommandError, Input, Now, Output, PeerMessage, Replica, ReplicaConfig, Role};
use muster_protocol::bus::{Down, Up, UpEnvelope};
use muster_protocol::command::{CancelJob, Command, SubmitJob};
use muster_protocol::envelope::{Answer, Envelope};
use muster_protocol::ids::{BootId, JobId, LogIndex, RaftId, RequestId, WorkerIdentity};
use muster_protocol::resources::Resources;
use muster_protocol::spec::{JobSpec, Noop, OnPartition, RetryPolicy, StageSpec, TaskKind, Work};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const TICK_MS: u64 = 50;

pub struct Member {
    pub replica: Option<Replica>,
    pub disk: MemoryDisk,
}

pub struct Cluster {
    pub members: BTreeMap<RaftId, Member>,
    configs: BTreeMap<RaftId, ReplicaConfig>,
    wire: VecDeque<(RaftId, RaftId, PeerMessage)>,
    /// Members that are cut off from the network.
    pub cut: BTreeSet<RaftId>,
    pub mono_ms: u64,
    pub answers: BTreeMap<u64, Result<Answer, CommandError>>,
    pub said: Vec<(WorkerIdentity, BootId, Down)>,
    pub halts: Vec<(RaftId, String)>,
    pub chunks: usize,
    /// All outputs as text, to compare runs.
    pub trace: Vec<String>,
    next_token: u64,
}

impl Cluster {
    pub fn new(members: u64, tweak: impl Fn(&mut ReplicaConfig)) -> Cluster {
        let list: Vec<MemberConfig> = (1..=members)
            .map(|id| MemberConfig {
                raft_id: RaftId(id),
                name: format!("c{id}"),
                peer: format!("p{id}"),
                http: format!("h{id}"),
            })
            .collect();
        let configs = list.iter().map(|member| {
            let mut config = ReplicaConfig::new("test", member.raft_id, list.clone(), 7);
            config.report_applied = true;
            tweak(&mut config);
            (member.raft_id, config)
        });
        let mut cluster = Cluster {
            members: list
                .iter()
                .map(|member| (member.raft_id, Member { replica: None, disk: MemoryDisk::new() }))
                .collect(),
            configs: configs.collect(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            mono_ms: 1_000,
            answers: BTreeMap::new(),
            said: Vec::new(),
            halts: Vec::new(),
            chunks: 0,
            trace: Vec::new(),
            next_token: 1,
        };
        for id in 1..=members {
            cluster.start(RaftId(id));
        }
        cluster
    }

    pub fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, wall_ms: 1_700_000_000_000 + self.mono_ms }
    }

    /// Starts a member from its disk.
    pub fn start(&mut self, id: RaftId) {
        let member = self.members.get_mut(&id).unwrap();
        let recovered = member.disk.recover().unwrap();
        member.replica = Some(Replica::new(self.configs[&id].clone(), recovered).unwrap());
        self.drive(id, None);
        self.deliver();
    }

    /// Cuts a member's power.
    pub fn crash(&mut self, id: RaftId) {
        let member = self.members.get_mut(&id).unwrap();
        member.replica = None;
        member.disk.crash();
    }

    /// Gives a member an input and settles.
    pub fn drive(&mut self, id: RaftId, input: Option<Input>) {
        let now = self.now();
        let member = self.members.get_mut(&id).unwrap();
        let Some(replica) = &mut member.replica else { return };
        let mut outputs = Vec::new();
        if let Some(input) = input {
            replica.handle(now, input, &mut |output| outputs.push(output));
        }
        replica.settle(now, &mut member.disk, &mut |output| outputs.push(output)).unwrap();
        for output in outputs {
            self.trace.push(format!("{id} {output:?}"));
            match output {
                Output::Peer { to, message } => {
                    self.chunks += usize::from(matches!(message, PeerMessage::SnapshotChunk(_)));
                    // Messages survive their encoding.
                    let message = PeerMessage::from_bytes(&message.to_bytes()).unwrap();
                    self.wire.push_back((id, to, message));
                }
                Output::Down { identity, boot, envelope } => {
                    self.said.push((identity, boot, envelope.message))
                }
                Output::Answered { token, result } => {
                    assert!(self.answers.insert(token, result).is_none(), "token {token} was answered twice");
                }
                Output::Halt { reason } => self.halts.push((id, reason)),
                Output::Applied(_)
                | Output::SnapshotInstalled { .. }
                | Output::Tail(_)
                | Output::RoleChanged { .. } => {}
            }
        }
    }

    fn deliver(&mut self) {
        while let Some((from, to, message)) = self.wire.pop_front() {
            if !self.cut.contains(&from) && !self.cut.contains(&to) {
                self.drive(to, Some(Input::Peer { from, message }));
            }
        }
    }

    pub fn ids(&self) -> Vec<RaftId> {
        self.members.keys().copied().collect()
    }

    pub fn tick(&mut self) {
        self.mono_ms += TICK_MS;
        for id in self.ids() {
            self.drive(id, Some(Input::Tick));
        }
        self.deliver();
    }

    pub fn run_ms(&mut self, ms: u64) {
        (0..ms / TICK_MS).for_each(|_| self.tick());
    }

    /// Ticks until a condition holds.
    pub fn until(&mut self, what: &str, done: impl Fn(&Cluster) -> bool) {
        for _ in 0..1_000 {
            if done(self) {
                return;
            }
            self.tick();
        }
        panic!("this did not happen: {what}");
    }

    pub fn replica(&self, id: RaftId) -> &Replica {
        self.members[&id].replica.as_ref().unwrap()
    }

    /// The member that leads, is not cut off, and has taken over.
    pub fn leader(&self) -> Option<RaftId> {
        let leads = |(id, member): (&RaftId, &Member)| {
            member.replica.as_ref().is_some_and(|replica| {
                replica.role() == Role::Leader && replica.is_serving() && !self.cut.contains(id)
            })
        };
        self.members.iter().find(|(id, member)| leads((id, member))).map(|(id, _)| *id)
    }

    pub fn elect(&mut self) -> RaftId {
        self.until("somebody leads", |cluster| cluster.leader().is_some());
        self.leader().unwrap()
    }

    /// Sends a command to a member, and returns its token.
    pub fn ask(&mut self, id: RaftId, envelope: Envelope) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.drive(id, Some(Input::Command { token, envelope }));
        self.deliver();
        token
    }

    pub fn submit(&mut self, id: RaftId, request: u128) -> u64 {
        self.ask(id, submit(request, 1))
    }

    /// Sends a message from a worker to every member.
    pub fn up(&mut self, worker: u128, boot: u128, message: Up) {
        let up = UpEnvelope {
            cluster: "test".to_string(),
            identity: WorkerIdentity(worker),
            boot: BootId(boot),
            trace: String::new(),
            message,
        };
        for id in self.ids() {
            if !self.cut.contains(&id) {
                self.drive(id, Some(Input::Up(Box::new(up.clone()))));
            }
        }
        self.deliver();
    }

    /// Takes the messages to workers since the last call.
    pub fn heard(&mut self) -> Vec<Down> {
        std::mem::take(&mut self.said).into_iter().map(|(_, _, down)| down).collect()
    }

    /// Asserts that running members at the same index have the same state.
    pub fn assert_agreement(&self) {
        let mut seen: BTreeMap<LogIndex, (RaftId, muster_protocol::ids::Digest)> = BTreeMap::new();
        for (id, member) in &self.members {
            let Some(replica) = &member.replica else { continue };
            let hash = replica.state().hash();
            let (other, expected) = *seen.entry(replica.applied()).or_insert((*id, hash));
            assert_eq!(hash, expected, "{id} and {other} differ at {}", replica.applied());
            assert_eq!(muster_machine::invariants::check(replica.state()), Vec::<String>::new());
        }
    }
}

pub fn submit(request: u128, tasks: u32) -> Envelope {
    let stage = StageSpec {
        name: "main".to_string(),
        needs: Vec::new(),
        tasks,
        array_first: 0,
        array_step: 1,
        work: Work::Noop(Noop {}),
        request: Resources { cpu_milli: 1_000, ..Resources::default() },
        gang: false,
        open: false,
        kind: TaskKind::Batch,
        retry: RetryPolicy::default(),
        timeout_ms: 0,
        grace_ms: 100,
        on_partition: OnPartition::Stop,
    };
    let spec = JobSpec {
        name: format!("job of {request}"),
        priority: 0,
        params: String::new(),
        stages: vec![stage],
    };
    envelope("alice", RequestId(request), LogIndex(0), Command::SubmitJob(SubmitJob { spec }))
}

pub fn cancel(job: u64) -> Envelope {
    let command = Command::CancelJob(CancelJob { job: JobId(job), reason: "enough".to_string() });
    envelope("alice", RequestId(0xCA_0000 + u128::from(job)), LogIndex(0), command)
}
