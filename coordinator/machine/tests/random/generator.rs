//! Random commands from a seed: most of them make sense, many do not.

use muster_machine::{Decision, State, schedule};
use muster_protocol::command::{
    AddTasks, Assign, CancelJob, Command, DrainWorker, RecordProgress, RegisterWorker, ReportAttempts,
    RetryJob, SealStage, SetLiveness, SubmitJob, TakeLeadership,
};
use muster_protocol::envelope::Envelope;
use muster_protocol::event::Event;
use muster_protocol::ids::{
    AttemptId, BootId, Digest, JobId, LogIndex, RaftId, RequestId, StageIndex, TaskId, Term, WorkerId,
    WorkerIdentity,
};
use muster_protocol::outcome::{Failed, Outcome, Reason, Succeeded};
use muster_protocol::resources::{GpuInfo, Resources};
use muster_protocol::spec::{
    BuiltinWork, ChildSpec, JobSpec, Noop, OnPartition, ProcessWork, RetryPolicy, StageSpec, TaskKind,
    TaskNumber, TaskRef, Work,
};
use muster_protocol::worker::{Ended, Liveness, ProgressRecord, Report, ReportKind, Started, WorkerHello};

const WORKERS: u64 = 5;

pub struct Generator {
    seed: u64,
    jobs: u64,
    /// Newest last; also those that ended.
    attempts: Vec<AttemptId>,
    assigns: Vec<Assign>,
    sent: Vec<Envelope>,
    open_stages: Vec<(JobId, StageIndex)>,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        Generator {
            seed,
            jobs: 0,
            attempts: Vec::new(),
            assigns: Vec::new(),
            sent: Vec::new(),
            open_stages: Vec::new(),
        }
    }

    fn next(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = self.seed ^ (self.seed >> 29);
        mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn envelope(request: RequestId, command: Command) -> Envelope {
        let text = String::from;
        let (actor, client, namespace, trace) = (text("alice"), text("test"), text("default"), String::new());
        Envelope { request, actor, client, namespace, trace, cause: LogIndex(0), command }
    }

    pub fn command(&mut self, state: &State) -> Envelope {
        if self.one_in(40) && !self.sent.is_empty() {
            let at = self.below(self.sent.len() as u64) as usize;
            let mut again = self.sent[at].clone();
            if self.one_in(4) {
                again.command = Command::RetryJob(RetryJob { job: JobId(1) });
            }
            return again;
        }
        let command = match self.below(100) {
            0..=5 => Command::SubmitJob(SubmitJob { spec: self.spec() }),
            6 => Command::CancelJob(CancelJob { job: self.job(), reason: "why not".into() }),
            7 => Command::RetryJob(RetryJob { job: self.job() }),
            8..=9 => Command::RegisterWorker(RegisterWorker { hello: self.hello() }),
            10..=13 => self.liveness(state),
            14 => Command::DrainWorker(DrainWorker { worker: self.worker(), drain: self.one_in(3) }),
            15..=39 => self.assign(state),
            40..=74 => self.report(state),
            75..=82 => self.progress(state),
            83..=88 => self.add(state),
            89 => self.seal(state),
            90..=98 => Command::AdvanceTime(Default::default()),
            _ => Command::TakeLeadership(TakeLeadership {
                leader: RaftId(1),
                name: "c1".into(),
                term: Term(self.below(3)),
            }),
        };
        let request = if self.one_in(3) { RequestId(u128::from(self.next()) + 1) } else { RequestId::NIL };
        Self::envelope(request, command)
    }

    /// Remembers what came of a command, so that later ones can be about it.
    pub fn note(&mut self, envelope: &Envelope, decision: &Decision) {
        if !envelope.request.is_nil() {
            self.sent.push(envelope.clone());
        }
        if let Command::Assign(assign) = &envelope.command {
            self.assigns.push(assign.clone());
        }
        for event in &decision.events {
            match event {
                Event::JobSubmitted(e) => {
                    self.jobs = self.jobs.max(e.job.0);
                    let open = (0..).zip(&e.spec.stages).filter(|(_, stage)| stage.open);
                    self.open_stages.extend(open.map(|(at, _)| (e.job, StageIndex(at))));
                }
                Event::TaskAssigned(e) => self.attempts.push(e.attempt),
                _ => {}
            }
        }
    }

    fn job(&mut self) -> JobId {
        JobId(self.jobs.saturating_sub(self.below(12)) + u64::from(self.one_in(20)))
    }

    fn worker(&mut self) -> WorkerId {
        WorkerId(1 + self.below(WORKERS + 1) as u32)
    }

    fn request(&mut self) -> Resources {
        let cpu_milli = [0, 500, 1_000, 1_000, 2_000, 9_000][self.below(6) as usize];
        let gpus = if self.one_in(5) { 1 + self.below(2) as u16 } else { 0 };
        let counters = if self.one_in(6) { [("licence".to_string(), 1)].into() } else { Default::default() };
        Resources { cpu_milli, memory_mib: 64 * self.below(4) as u32, gpus, counters }
    }

    fn spec(&mut self) -> JobSpec {
        let count = 1 + self.below(4);
        let mut stages = Vec::new();
        for at in 0..count {
            let gang = self.one_in(4);
            let open = !gang && self.one_in(3);
            let needs = (0..at as u16).filter(|_| self.one_in(2)).map(StageIndex).collect();
            let work = match self.below(4) {
                0 => Work::Noop(Noop {}),
                1 => Work::Builtin(BuiltinWork { executor: "train".into(), params: "{}".into() }),
                _ => {
                    Work::Process(ProcessWork { argv: vec!["true".into()], env: vec![], cwd: String::new() })
                }
            };
            let tasks = if open && self.one_in(2) { 0 } else { 1 + self.below(5) as u32 };
            let retry = RetryPolicy {
                retries: self.below(3) as u32,
                backoff_ms: self.below(300),
                backoff_ms_max: 400,
            };
            let kind = if self.one_in(12) { TaskKind::Service } else { TaskKind::Batch };
            let timeout_ms = if self.one_in(3) { 1 + self.below(400) } else { 0 };
            stages.push(StageSpec {
                name: format!("stage-{at}"),
                needs,
                tasks,
                array_first: 0,
                array_step: 1,
                work,
                request: self.request(),
                gang,
                open,
                kind,
                retry,
                timeout_ms,
                grace_ms: 100,
                on_partition: OnPartition::Stop,
            });
        }
        if self.one_in(15) {
            stages[0].needs.push(StageIndex(7));
        }
        JobSpec { name: "random".into(), priority: self.below(3) as i32 - 1, params: String::new(), stages }
    }

    fn hello(&mut self) -> WorkerHello {
        let identity = 1 + self.below(WORKERS);
        let gpus: u16 = if identity.is_multiple_of(2) { 2 } else { 0 };
        let info =
            |index| GpuInfo { index, model: "H100".into(), memory_mib: 80_000, uuid: format!("GPU-{index}") };
        let counters = if identity == 1 { Default::default() } else { [("licence".to_string(), 1)].into() };
        WorkerHello {
            identity: WorkerIdentity(u128::from(identity)),
            boot: BootId(1 + u128::from(self.below(4))),
            name: format!("w{identity}"),
            address: format!("10.0.0.{identity}"),
            rendezvous_port_first: 7_000,
            rendezvous_ports: if identity == 3 { 0 } else { 2 },
            capacity: Resources {
                cpu_milli: 2_000 * identity as u32,
                memory_mib: 256 * identity as u32,
                gpus,
                counters,
            },
            gpus: (0..gpus).map(info).collect(),
            labels: Default::default(),
            queue: [0, 2, 8][self.below(3) as usize],
            version: "0.1.0".into(),
        }
    }

    pub fn fits_somewhere(state: &State, stage: &StageSpec) -> bool {
        // A gang has as many ranks as there are tasks; all of them must fit at once.
        let slots: u32 = state.workers().map(|worker| slots(&worker.hello().capacity, &stage.request)).sum();
        let meets = |worker: &muster_machine::Worker| {
            worker.hello().rendezvous_ports > 0 && worker.hello().capacity.fits(&stage.request)
        };
        if stage.gang { slots >= stage.tasks && state.workers().any(meets) } else { slots > 0 }
    }

    fn liveness(&mut self, state: &State) -> Command {
        let worker = self.worker();
        let boot = state
            .worker(worker)
            .map(|worker| worker.hello().boot)
            .filter(|_| !self.one_in(6))
            .unwrap_or(BootId(1));
        let liveness =
            [Liveness::Alive, Liveness::Alive, Liveness::Suspect, Liveness::Lost][self.below(4) as usize];
        Command::SetLiveness(SetLiveness { worker, boot, liveness })
    }

    fn assign(&mut self, state: &State) -> Command {
        let mut assign = match self.below(12) {
            0 if !self.assigns.is_empty() => {
                let at = self.below(self.assigns.len() as u64) as usize;
                self.assigns[at].clone()
            }
            _ => schedule(state, &[]).unwrap_or(Assign { assignments: vec![], hints: vec![] }),
        };
        if self.one_in(8) {
            let worker = self.worker();
            let count = assign.assignments.len() as u64;
            match self.below(6) {
                0 => assign.assignments.iter_mut().for_each(|one| one.worker = worker),
                1 => assign.assignments.iter_mut().for_each(|one| one.queued = true),
                2 => assign.assignments.iter_mut().for_each(|one| one.attempt.epoch += 1),
                3 => assign.assignments.truncate(self.below(count) as usize),
                4 => assign.assignments.iter_mut().for_each(|one| one.grant.gpus = vec![0]),
                _ => assign.assignments.extend_from_within(..),
            }
        }
        Command::Assign(assign)
    }

    /// Mostly one that lives.
    fn attempt(&mut self, state: &State) -> AttemptId {
        let live: Vec<AttemptId> = state.workers().flat_map(|worker| worker.held()).collect();
        let mut attempt = match self.below(8) {
            0 if !self.attempts.is_empty() => {
                let at = self.below(self.attempts.len() as u64) as usize;
                self.attempts[at]
            }
            _ if !live.is_empty() => live[self.below(live.len() as u64) as usize],
            _ => AttemptId { task: TaskId { job: self.job(), index: self.below(4) as u32 }, epoch: 1 },
        };
        if self.one_in(30) {
            attempt.epoch += 1;
        }
        attempt
    }

    fn worker_of(&mut self, state: &State, attempt: AttemptId) -> (WorkerId, BootId) {
        let holds = state.workers().find(|worker| worker.holds(attempt));
        let right = holds.map(|worker| (worker.id, worker.hello().boot)).filter(|_| !self.one_in(20));
        right.unwrap_or_else(|| (self.worker(), BootId(1)))
    }

    fn outcome(&mut self) -> Outcome {
        let reason = Reason { message: "so it was".into() };
        match self.below(14) {
            0 => Outcome::Failed(Failed { exit_code: Some(1), signal: None, message: "no".into() }),
            1 => Outcome::NotStarted(reason),
            2 => Outcome::Lost(reason),
            3 => Outcome::Cancelled(reason),
            4 => Outcome::GangBroken(reason),
            5 => Outcome::TimedOut(reason),
            6 => Outcome::Succeeded(Succeeded { output: "x".repeat(1_000 + self.below(50) as usize) }),
            _ => Outcome::Succeeded(Succeeded { output: "{}".into() }),
        }
    }

    fn report(&mut self, state: &State) -> Command {
        let first = self.attempt(state);
        let (worker, boot) = self.worker_of(state, first);
        let held: Vec<AttemptId> =
            state.worker(worker).map(|worker| worker.held().collect()).unwrap_or_default();
        let mut attempts = vec![first];
        attempts.extend(held.into_iter().filter(|_| self.one_in(2)));
        let mut reports = Vec::new();
        for attempt in attempts {
            if !self.one_in(4) {
                reports.push(Report { attempt, what: ReportKind::Started(Started { pid: 5 }) });
            }
            if self.one_in(2) {
                let ended = Ended { outcome: self.outcome(), run_ms: self.below(1_500) };
                reports.push(Report { attempt, what: ReportKind::Ended(ended) });
            }
        }
        Command::ReportAttempts(ReportAttempts { worker, boot, reports })
    }

    fn progress(&mut self, state: &State) -> Command {
        let attempt = self.attempt(state);
        let (worker, boot) = self.worker_of(state, attempt);
        let count = 1 + self.below(3);
        let record = |generator: &mut Self| ProgressRecord {
            attempt,
            key: ["train", "checkpoint", ""][generator.below(3) as usize].into(),
            seq: generator.below(20),
            payload_hash: Digest::of(b"x"),
            body: "x".repeat(generator.below(30) as usize),
        };
        let records = (0..count).map(|_| record(self)).collect();
        Command::RecordProgress(RecordProgress { worker, boot, records })
    }

    fn open_stage(&mut self, parent: AttemptId) -> StageIndex {
        let open: Vec<StageIndex> = self
            .open_stages
            .iter()
            .filter(|(job, _)| *job == parent.task.job)
            .map(|(_, stage)| *stage)
            .collect();
        if open.is_empty() || self.one_in(10) {
            StageIndex(self.below(5) as u16)
        } else {
            open[self.below(open.len() as u64) as usize]
        }
    }

    fn add(&mut self, state: &State) -> Command {
        let parent = self.attempt(state);
        let stage = self.open_stage(parent);
        let mut children = Vec::new();
        for at in 0..1 + self.below(4) as u32 {
            let mut after = Vec::new();
            if at > 0 && self.one_in(2) {
                after.push(TaskRef::New(TaskNumber { index: self.below(u64::from(at)) as u32 }));
            }
            if self.one_in(3) {
                after.push(TaskRef::Existing(TaskNumber { index: self.below(6) as u32 }));
            }
            children.push(ChildSpec { stage, params: String::new(), after });
        }
        Command::AddTasks(AddTasks { parent, children })
    }

    fn seal(&mut self, state: &State) -> Command {
        let parent = self.attempt(state);
        Command::SealStage(SealStage { parent, stage: self.open_stage(parent) })
    }
}

fn slots(capacity: &Resources, request: &Resources) -> u32 {
    let of = |have: u32, want: u32| have.checked_div(want).unwrap_or(1_000);
    let counters = request
        .counters
        .iter()
        .map(|(name, want)| of(capacity.counters.get(name).copied().unwrap_or(0), *want));
    let amounts = [
        of(capacity.cpu_milli, request.cpu_milli),
        of(capacity.memory_mib, request.memory_mib),
        of(u32::from(capacity.gpus), u32::from(request.gpus)),
    ];
    counters.chain(amounts).min().unwrap_or(0)
}
