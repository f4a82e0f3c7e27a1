//! The little language of the transcripts: one command a line, its parts between `|`.
//!
//! `[req=N] VERB ARGUMENT.. [KEY=VALUE..] [| PART ..]`; the verbs are those of [`Script::run`]. Workers are
//! named, attempts are `1.0#2`: of task 0 of job 1, the second.

use crate::show;
use muster_machine::{Moment, State, answer, decide, invariants, schedule, views};
use muster_protocol::attempt_call::{CallRequest, FindStage, StageOutputs, TaskProgress};
use muster_protocol::command::*;
use muster_protocol::envelope::{ChainHead, Envelope};
use muster_protocol::ids::*;
use muster_protocol::outcome::{Failed, Outcome, Reason, Succeeded};
use muster_protocol::resources::{GpuInfo, Grant, Resources};
use muster_protocol::spec::*;
use muster_protocol::time::{LogMs, WallMs};
use muster_protocol::worker::{Ended, Liveness, ProgressRecord, Report, ReportKind, Started, WorkerHello};
use std::collections::BTreeMap;

pub struct Script {
    state: State,
    index: u64,
    log_ms: u64,
}

/// Words of one part of a line: plain ones, and those with a value.
struct Words<'a> {
    plain: Vec<&'a str>,
    keys: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(part: &'a str) -> Self {
        let (keys, plain): (Vec<&str>, Vec<&str>) =
            part.split_whitespace().partition(|word| word.contains('='));
        Words { plain, keys: keys.into_iter().filter_map(|word| word.split_once('=')).collect() }
    }

    fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        self.keys.get(key).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{key}={text}")))
    }

    fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }

    fn rest(&self, from: usize) -> String {
        self.plain.get(from..).unwrap_or_default().join(" ")
    }
}

impl Script {
    pub fn new() -> Self {
        Script { state: State::new("transcript"), index: 0, log_ms: 0 }
    }

    pub fn run(&mut self, line: &str) -> Vec<String> {
        let (request, line) = match line.strip_prefix("req=").and_then(|rest| rest.split_once(' ')) {
            Some((request, rest)) => (RequestId(request.parse().unwrap()), rest),
            None => (RequestId::NIL, line),
        };
        let mut parts = line.split('|');
        let words = Words::of(parts.next().unwrap());
        let parts: Vec<Words<'_>> = parts.map(Words::of).collect();
        let first = words.plain.get(1).copied().unwrap_or_default();
        let command = match words.plain[0] {
            "wait" => {
                self.log_ms += first.parse::<u64>().unwrap();
                return vec![format!("now {}", self.log_ms)];
            }
            "submit" => Command::SubmitJob(SubmitJob { spec: job_spec(&words, &parts) }),
            "cancel" => Command::CancelJob(CancelJob { job: job(first), reason: words.rest(2) }),
            "retry" => Command::RetryJob(RetryJob { job: job(first) }),
            "worker" => Command::RegisterWorker(RegisterWorker { hello: hello(first, &words) }),
            "alive" => self.set_liveness(first, &words, Liveness::Alive),
            "suspect" => self.set_liveness(first, &words, Liveness::Suspect),
            "lost" => self.set_liveness(first, &words, Liveness::Lost),
            "drain" => Command::DrainWorker(DrainWorker { worker: self.worker(first), drain: true }),
            "undrain" => Command::DrainWorker(DrainWorker { worker: self.worker(first), drain: false }),
            "schedule" => match schedule(&self.state, &[]) {
                Some(assign) => Command::Assign(assign),
                None => return vec!["nothing to place, or no room".into()],
            },
            "assign" => {
                let assignments = parts.iter().map(|part| self.assignment(part)).collect();
                Command::Assign(Assign { assignments, hints: vec![] })
            }
            "report" => {
                let reports = parts.iter().map(report).collect();
                Command::ReportAttempts(ReportAttempts {
                    worker: self.worker(first),
                    boot: self.boot(first, &words),
                    reports,
                })
            }
            "progress" => {
                let records = parts.iter().map(record).collect();
                Command::RecordProgress(RecordProgress {
                    worker: self.worker(first),
                    boot: self.boot(first, &words),
                    records,
                })
            }
            "add" => {
                let children = parts.iter().map(|part| self.child(attempt(first), part)).collect();
                Command::AddTasks(AddTasks { parent: attempt(first), children })
            }
            "seal" => Command::SealStage(SealStage {
                parent: attempt(first),
                stage: self.stage(attempt(first), words.plain[2]),
            }),
            "advance" => Command::AdvanceTime(AdvanceTime {}),
            "lead" => Command::TakeLeadership(TakeLeadership {
                leader: RaftId(first.parse().unwrap()),
                name: format!("c{first}"),
                term: Term(words.number("term", 1)),
            }),
            "raise" => Command::RaiseVersion(RaiseVersion { version: first.parse().unwrap() }),
            _ => return self.look(&words),
        };
        self.apply(request, command)
    }

    fn apply(&mut self, request: RequestId, command: Command) -> Vec<String> {
        self.index += 1;
        let (index, text) = (LogIndex(self.index), String::from);
        self.state.begin(&Moment {
            index,
            term: Term(1),
            log_ms: LogMs(self.log_ms),
            wall_ms: WallMs(self.log_ms),
        });
        let (actor, client, namespace, trace) = (text("alice"), text("test"), text("default"), String::new());
        let decision = decide(
            &mut self.state,
            &Envelope { request, actor, client, namespace, trace, cause: LogIndex(0), command },
        );
        let mut lines: Vec<String> = decision.events.iter().map(show::event).collect();
        self.state.seal(ChainHead { index, hash: Digest::default() });
        lines.push(show::answer(&decision.answer));
        lines.extend(invariants::check(&self.state).into_iter().map(|broken| format!("BROKEN {broken}")));
        self.state = State::from_bytes(&self.state.to_bytes()).unwrap();
        lines
    }

    /// What changes nothing.
    fn look(&self, words: &Words<'_>) -> Vec<String> {
        let first = words.plain.get(1).copied().unwrap_or_default();
        match words.plain[0] {
            "timer" => vec![format!("{:?}", self.state.next_timer().map(|at| at.0))],
            "job" => match views::detail(&self.state, job(first)) {
                Some(detail) => [show::job(&detail.job)]
                    .into_iter()
                    .chain(detail.stages.iter().map(show::stage))
                    .collect(),
                None => vec!["none".into()],
            },
            "tasks" => {
                let page = views::tasks(
                    &self.state,
                    job(first),
                    words.number("from", 0),
                    words.number("limit", 100),
                )
                .unwrap();
                page.tasks
                    .iter()
                    .map(show::task_view)
                    .chain(page.next.map(|next| format!("next {next}")))
                    .collect()
            }
            "workers" => views::workers(&self.state).iter().map(show::worker).collect(),
            "ask" => {
                let request = match words.plain[2] {
                    "outputs" => CallRequest::StageOutputs(StageOutputs {
                        stage: words.plain[3].into(),
                        from: words.number("from", 0),
                    }),
                    "progress" => CallRequest::TaskProgress(TaskProgress {
                        task: attempt(words.plain[3]).task,
                        prefix: words.rest(4),
                    }),
                    "stage" => CallRequest::FindStage(FindStage { name: words.plain[3].into() }),
                    other => panic!("ask {other}"),
                };
                show::call_answer(answer(&self.state, attempt(first), &request).as_ref())
            }
            "launch" => match self.state.launch(attempt(first)) {
                None => vec!["none".into()],
                Some(launch) => {
                    let gang = launch.gang.map(|gang| {
                        format!(" formation {} at {}:{}", gang.formation, gang.address, gang.port)
                    });
                    let queued = if launch.queued { " queued" } else { "" };
                    let place =
                        format!("rank {} of {} index {}", launch.rank, launch.world, launch.array_index);
                    vec![format!(
                        "{} {place} params `{}`{}{queued}",
                        launch.stage_name,
                        launch.child_params,
                        gang.unwrap_or_default()
                    )]
                }
            },
            "stop" => match self.state.stop(attempt(first)) {
                None => vec!["none".into()],
                Some(stop) => vec![format!("{} grace {}", stop.outcome.word(), stop.grace_ms)],
            },
            other => panic!("no such verb: {other}"),
        }
    }

    fn worker(&self, name: &str) -> WorkerId {
        let known = self.state.workers().find(|worker| worker.hello().name == name);
        known.map_or(WorkerId(999), |worker| worker.id)
    }

    fn boot(&self, name: &str, words: &Words<'_>) -> BootId {
        let known = self.state.workers().find(|worker| worker.hello().name == name);
        BootId(words.number("boot", known.map_or(0, |worker| worker.hello().boot.0)))
    }

    fn set_liveness(&self, name: &str, words: &Words<'_>, liveness: Liveness) -> Command {
        Command::SetLiveness(SetLiveness {
            worker: self.worker(name),
            boot: self.boot(name, words),
            liveness,
        })
    }

    fn stage(&self, parent: AttemptId, name: &str) -> StageIndex {
        let detail = views::detail(&self.state, parent.task.job);
        let at = detail.and_then(|detail| detail.spec.stages.iter().position(|stage| stage.name == name));
        StageIndex(at.unwrap_or(99) as u16)
    }

    fn child(&self, parent: AttemptId, part: &Words<'_>) -> ChildSpec {
        let reference = |text: &str| match text.strip_prefix("new") {
            Some(place) => TaskRef::New(TaskNumber { index: place.parse().unwrap() }),
            None => TaskRef::Existing(TaskNumber { index: text.parse().unwrap() }),
        };
        let after =
            part.keys.get("after").map(|list| list.split(',').map(reference).collect()).unwrap_or_default();
        let params = part.keys.get("params").copied().unwrap_or_default().to_string();
        ChildSpec { stage: self.stage(parent, part.plain[0]), params, after }
    }

    fn assignment(&self, part: &Words<'_>) -> Assignment {
        let gpus =
            part.keys.get("gpus").map(|list| list.split(',').map(|gpu| gpu.parse().unwrap()).collect());
        let grant = Grant { gpus: gpus.unwrap_or_default() };
        Assignment {
            attempt: attempt(part.plain[1]),
            worker: self.worker(part.plain[0]),
            grant,
            queued: part.has("queued"),
        }
    }
}

fn job(text: &str) -> JobId {
    text.parse().unwrap_or_else(|_| panic!("not a job: {text}"))
}

fn attempt(text: &str) -> AttemptId {
    let whole = format!("job-{text}{}", if text.contains('#') { "" } else { "#1" });
    whole.parse().unwrap_or_else(|_| panic!("not an attempt: {text}"))
}

fn resources(words: &Words<'_>) -> Resources {
    let counters = words.keys.get("licence").map(|count| ("licence".to_string(), count.parse().unwrap()));
    Resources {
        cpu_milli: words.number("cpu", 0),
        memory_mib: words.number("mem", 0),
        gpus: words.number("gpus", 0),
        counters: counters.into_iter().collect(),
    }
}

fn hello(name: &str, words: &Words<'_>) -> WorkerHello {
    let capacity = resources(words);
    let info =
        |index| GpuInfo { index, model: "H100".into(), memory_mib: 81_920, uuid: format!("GPU-{index}") };
    WorkerHello {
        identity: WorkerIdentity(name.bytes().fold(1, |sum, byte| sum * 256 + u128::from(byte))),
        boot: BootId(words.number("boot", 1)),
        name: name.into(),
        address: format!("{name}.local"),
        rendezvous_port_first: 7_000,
        rendezvous_ports: words.number("ports", 4),
        gpus: (0..words.number("infos", capacity.gpus)).map(info).collect(),
        capacity,
        labels: BTreeMap::new(),
        queue: words.number("queue", 0),
        version: "0.1.0".into(),
    }
}

fn job_spec(words: &Words<'_>, parts: &[Words<'_>]) -> JobSpec {
    let names: Vec<&str> = parts.iter().map(|part| part.plain.first().copied().unwrap_or_default()).collect();
    let index = |name: &str| StageIndex(names.iter().position(|other| *other == name).unwrap_or(99) as u16);
    let stage = |part: &Words<'_>| StageSpec {
        name: part.plain.first().copied().unwrap_or_default().into(),
        needs: part.keys.get("needs").map(|list| list.split(',').map(index).collect()).unwrap_or_default(),
        tasks: part.number("tasks", 1),
        array_first: part.number("first", 0),
        array_step: part.number("step", 1),
        work: match part.keys.get("argv") {
            _ if part.has("noop") => Work::Noop(Noop {}),
            Some(&"") => Work::Process(ProcessWork { argv: vec![], env: vec![], cwd: String::new() }),
            program => {
                let argv = vec![program.copied().unwrap_or("true").to_string()];
                Work::Process(ProcessWork { argv, env: vec![], cwd: String::new() })
            }
        },
        request: resources(part),
        gang: part.has("gang"),
        open: part.has("open"),
        kind: if part.has("service") { TaskKind::Service } else { TaskKind::Batch },
        retry: RetryPolicy {
            retries: part.number("retries", 0),
            backoff_ms: part.number("backoff", 1_000),
            backoff_ms_max: part.number("backoff_max", 60_000),
        },
        timeout_ms: part.number("timeout", 0),
        grace_ms: part.number("grace", 5_000),
        on_partition: OnPartition::Stop,
    };
    JobSpec {
        name: words.rest(1),
        priority: words.number("priority", 0),
        params: words.keys.get("params").copied().unwrap_or_default().into(),
        stages: parts.iter().map(stage).collect(),
    }
}

fn report(part: &Words<'_>) -> Report {
    let reason = || Reason { message: part.rest(2) };
    let outcome = match part.plain[0] {
        "start" => {
            let what = ReportKind::Started(Started { pid: part.number("pid", 100) });
            return Report { attempt: attempt(part.plain[1]), what };
        }
        "ok" => Outcome::Succeeded(Succeeded { output: part.rest(2) }),
        "fail" => Outcome::Failed(Failed { exit_code: Some(1), signal: None, message: part.rest(2) }),
        "nostart" => Outcome::NotStarted(reason()),
        "fenced" => Outcome::Lost(reason()),
        "cancelled" => Outcome::Cancelled(reason()),
        other => panic!("report {other}"),
    };
    Report {
        attempt: attempt(part.plain[1]),
        what: ReportKind::Ended(Ended { outcome, run_ms: part.number("run", 5_000) }),
    }
}

fn record(part: &Words<'_>) -> ProgressRecord {
    ProgressRecord {
        attempt: attempt(part.plain[0]),
        key: part.plain[1].into(),
        seq: part.plain[2].parse().unwrap(),
        payload_hash: Digest::of(part.rest(3).as_bytes()),
        body: part.rest(3),
    }
}
