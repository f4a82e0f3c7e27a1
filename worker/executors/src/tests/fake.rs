//! A fake cluster with one thread per attempt: it keeps outputs, records and children, and answers as the
//! coordinator does.

use crate::error::Error;
use crate::{WaitTimes, run};
use muster_attempt::{Attempt, AttemptClient};
use muster_protocol::attempt_call::{
    AgentFrame, Answered, AttemptFrame, CallAnswer, CallRequest, Found, KeyedRecord, Outputs, Records, Taken,
    TaskOutput,
};
use muster_protocol::bus::{Launch, Rendezvous};
use muster_protocol::codec;
use muster_protocol::envelope::TasksAdded;
use muster_protocol::ids::{AttemptId, Digest, JobId, StageIndex, TaskId};
use muster_protocol::rejection::Detail;
use muster_protocol::resources::{Grant, Resources};
use muster_protocol::spec::{BuiltinWork, ChildSpec, OnPartition, TaskRef, Work};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Short enough that a test notices a lost loader or rank quickly.
const WAIT_TIMES: WaitTimes = WaitTimes {
    loader_outage: Duration::from_secs(20),
    broken_gang: Duration::ZERO,
    stage_poll: Duration::from_millis(20),
};

/// What a rank does that runs no executor.
pub type StandIn = fn(&Launch);

/// A stage, with the numbers of its tasks.
pub struct Stage {
    pub name: &'static str,
    pub executor: &'static str,
    pub params: String,
    pub tasks: Vec<u32>,
    pub gang: bool,
    pub sealed: bool,
}

#[derive(Default)]
pub struct Memory {
    pub stages: Vec<Stage>,
    tasks: u32,
    pub children: BTreeMap<u32, ChildSpec>,
    pub outputs: BTreeMap<u32, String>,
    pub records: BTreeMap<u32, BTreeMap<String, KeyedRecord>>,
    /// All records, in order.
    pub ledger: Vec<(u32, KeyedRecord)>,
    answers: BTreeMap<(u32, u64), CallAnswer>,
    epochs: BTreeMap<u32, u32>,
    formations: u32,
    /// Records with this key are stale: the log has one of another attempt, which the agent does not know of.
    pub usurped: Option<&'static str>,
    /// CPUs granted to each attempt; 0 means one.
    pub cpus: u32,
    /// MiB granted to each attempt; 0: no limit is given.
    pub memory_mib: u32,
    /// A key, and how many more records with it are accepted before the agent dies.
    pub patience: Option<(&'static str, usize)>,
    /// A rank that runs this instead of an executor.
    pub stand_in: Option<(u32, StandIn)>,
}

#[derive(Clone)]
pub struct Cluster {
    pub dir: PathBuf,
    pub memory: Arc<Mutex<Memory>>,
}

impl Cluster {
    pub fn new(dir: &std::path::Path) -> Cluster {
        Cluster { dir: dir.to_owned(), memory: Arc::default() }
    }

    pub fn stage(&self, name: &'static str, executor: &'static str, tasks: u32, gang: bool, params: &str) {
        let mut memory = self.memory.lock().unwrap();
        let first = memory.tasks;
        memory.tasks += tasks;
        let tasks = (first..first + tasks).collect();
        memory.stages.push(Stage { name, executor, params: params.to_owned(), tasks, gang, sealed: false });
    }

    /// Runs all tasks of a stage at once, each in a thread, and returns their results.
    pub fn run(&self, name: &str) -> Vec<Result<Value, String>> {
        let launches = {
            let mut memory = self.memory.lock().unwrap();
            memory.formations += 1;
            let index = memory.stages.iter().position(|stage| stage.name == name).unwrap();
            let stage = &memory.stages[index];
            // Another process is unlikely to take the port before rank 0 listens; the other ranks retry
            // anyway.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let gang = stage.gang.then(|| Rendezvous {
                formation: memory.formations,
                address: "127.0.0.1".to_owned(),
                port,
            });
            let tasks = stage.tasks.clone();
            let mut launches = Vec::new();
            for (rank, task) in tasks.iter().enumerate() {
                let epoch = memory.epochs.entry(*task).and_modify(|epoch| *epoch += 1).or_insert(1);
                let attempt = AttemptId { task: TaskId { job: JobId(1), index: *task }, epoch: *epoch };
                let stage = &memory.stages[index];
                launches.push(Launch {
                    attempt,
                    job_name: "test".to_owned(),
                    stage: StageIndex(index as u16),
                    stage_name: name.to_owned(),
                    work: Work::Builtin(BuiltinWork {
                        executor: stage.executor.to_owned(),
                        params: stage.params.clone(),
                    }),
                    job_params: r#"{"seed": 5}"#.to_owned(),
                    child_params: memory
                        .children
                        .get(task)
                        .map(|child| child.params.clone())
                        .unwrap_or_default(),
                    array_index: rank as u64,
                    rank: rank as u32,
                    world: tasks.len() as u32,
                    gang: gang.clone(),
                    request: Resources {
                        cpu_milli: 1000 * memory.cpus.max(1),
                        memory_mib: memory.memory_mib,
                        ..Resources::default()
                    },
                    grant: Grant::default(),
                    queued: false,
                    grace_ms: 0,
                    on_partition: OnPartition::Stop,
                });
            }
            launches
        };
        let attempts = launches.into_iter().map(|launch| {
            let cluster = self.clone();
            let stand_in = cluster.memory.lock().unwrap().stand_in.filter(|(rank, _)| *rank == launch.rank);
            thread::spawn(move || match stand_in {
                Some((_, work)) => {
                    work(&launch);
                    Ok(Value::Null)
                }
                None => cluster.attempt(launch),
            })
        });
        attempts.collect::<Vec<_>>().into_iter().map(|attempt| attempt.join().unwrap()).collect()
    }

    /// Like [`Cluster::run`], but panics unless all tasks succeed.
    pub fn succeed(&self, name: &str) -> Vec<Value> {
        self.run(name)
            .into_iter()
            .map(|ended| ended.unwrap_or_else(|message| panic!("{name}: {message}")))
            .collect()
    }

    fn attempt(&self, launch: Launch) -> Result<Value, String> {
        let id = launch.attempt;
        let socket = self.dir.join(format!("{id}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let agent = {
            let (memory, over) = (Arc::clone(&self.memory), Arc::clone(&over));
            thread::spawn(move || agent(&listener, id.task.index, &memory, &over))
        };
        let Work::Builtin(work) = launch.work.clone() else { panic!("only executors run here") };
        let ended = (|| -> Result<(), Error> {
            let client = AttemptClient::connect(&socket)?;
            let mut attempt = Attempt::new(launch, "test".to_owned(), &self.dir.join("artifacts"), client)?;
            run(&work.executor, &mut attempt, &WAIT_TIMES)
        })();
        // The agent waits for connections; this is the last one.
        over.store(true, Ordering::SeqCst);
        drop(UnixStream::connect(&socket));
        let output = agent.join().unwrap();
        ended.map_err(|error| error.to_string())?;
        let output = output.ok_or("it left no output")?;
        self.memory.lock().unwrap().outputs.insert(id.task.index, output.clone());
        Ok(serde_json::from_str(&output).unwrap())
    }

    /// A task's newest record under a key.
    pub fn record(&self, task: u32, key: &str) -> KeyedRecord {
        self.memory.lock().unwrap().records[&task][key].clone()
    }
}

/// The agent's end of an attempt's socket, for all its connections. Returns the output once the attempt ends.
fn agent(
    listener: &UnixListener,
    task: u32,
    memory: &Arc<Mutex<Memory>>,
    over: &AtomicBool,
) -> Option<String> {
    let mut serving = Vec::new();
    loop {
        let stream = listener.accept().unwrap().0;
        if over.load(Ordering::SeqCst) {
            break;
        }
        let memory = Arc::clone(memory);
        serving.push(thread::spawn(move || serve(&stream, task, &memory)));
    }
    serving.into_iter().filter_map(|serving| serving.join().unwrap()).next_back()
}

/// Serves one connection; returns the output if the attempt sent one on it.
fn serve(mut stream: &UnixStream, task: u32, memory: &Mutex<Memory>) -> Option<String> {
    let mut output = None;
    loop {
        let mut head = [0; 4];
        if stream.read_exact(&mut head).is_err() {
            return output;
        }
        let mut sealed = vec![0; u32::from_le_bytes(head) as usize];
        stream.read_exact(&mut sealed).unwrap();
        let mut memory = memory.lock().unwrap();
        let reply = match codec::open::<AttemptFrame>(&sealed, 1 << 20).unwrap() {
            AttemptFrame::Output(said) => {
                output = Some(said.output);
                AgentFrame::Taken(Taken {})
            }
            AttemptFrame::Record(record) => {
                if let Some((key, left)) = &mut memory.patience
                    && record.key.starts_with(*key)
                {
                    if *left == 0 {
                        return None;
                    }
                    *left -= 1;
                }
                let kept = KeyedRecord {
                    key: record.key,
                    seq: record.seq,
                    payload_hash: record.payload_hash,
                    body: record.body,
                };
                let usurped = memory.usurped.is_some_and(|key| kept.key == key);
                let kept =
                    if usurped { KeyedRecord { payload_hash: Digest::default(), ..kept } } else { kept };
                let records = memory.records.entry(task).or_default();
                let newest = records.get(&kept.key).is_none_or(|have| have.seq < kept.seq);
                if newest {
                    records.insert(kept.key.clone(), kept.clone());
                    memory.ledger.push((task, kept));
                    AgentFrame::Taken(Taken {})
                } else {
                    // The coordinator would drop it silently; no executor may rely on that.
                    AgentFrame::Refused(Detail { message: format!("{} {} is not new", kept.key, kept.seq) })
                }
            }
            AttemptFrame::Ask(ask) => {
                AgentFrame::Answered(Answered { answer: memory.answer(task, ask.nonce, &ask.request) })
            }
        };
        drop(memory);
        let sealed = codec::seal(&reply);
        stream.write_all(&(sealed.len() as u32).to_le_bytes()).unwrap();
        stream.write_all(&sealed).unwrap();
    }
}

impl Memory {
    /// Gives a gang another number of ranks; rank 0 stays the same task.
    pub fn resize(&mut self, name: &str, ranks: u32) {
        let first = self.tasks;
        let stage = self.stages.iter_mut().find(|stage| stage.name == name).unwrap();
        stage.tasks.truncate(1);
        stage.tasks.extend(first..first + ranks - 1);
        stage.gang = ranks > 1;
        self.tasks += ranks - 1;
    }

    fn answer(&mut self, task: u32, nonce: u64, request: &CallRequest) -> CallAnswer {
        match request {
            CallRequest::StageOutputs(ask) => {
                let stage = self.stages.iter().find(|stage| stage.name == ask.stage).unwrap();
                // One per page, so that the paging is tested.
                let place = (ask.from as usize..stage.tasks.len())
                    .find(|place| self.outputs.contains_key(&stage.tasks[*place]));
                let outputs = place.map(|place| {
                    let index = stage.tasks[place];
                    TaskOutput { task: TaskId { job: JobId(1), index }, output: self.outputs[&index].clone() }
                });
                let next =
                    place.map(|place| place as u32 + 1).filter(|next| (*next as usize) < stage.tasks.len());
                CallAnswer::Outputs(Outputs { outputs: outputs.into_iter().collect(), next })
            }
            CallRequest::TaskProgress(ask) => {
                let records = self.records.get(&ask.task.index).cloned().unwrap_or_default();
                CallAnswer::Records(Records {
                    records: records.into_values().filter(|one| one.key.starts_with(&ask.prefix)).collect(),
                })
            }
            CallRequest::FindStage(ask) => {
                let index = self.stages.iter().position(|stage| stage.name == ask.name).unwrap();
                let tasks = &self.stages[index].tasks;
                let first_task = tasks.first().copied().unwrap_or(0);
                CallAnswer::Found(Found {
                    stage: StageIndex(index as u16),
                    tasks: tasks.len() as u32,
                    first_task,
                })
            }
            CallRequest::AddChildren(_) | CallRequest::Seal(_)
                if self.answers.contains_key(&(task, nonce)) =>
            {
                self.answers[&(task, nonce)].clone()
            }
            CallRequest::AddChildren(add) => {
                let first = self.tasks;
                for child in &add.children {
                    assert!(!self.stages[child.stage.0 as usize].sealed);
                    let new = child
                        .after
                        .iter()
                        .all(|after| matches!(after, TaskRef::New(new) if first + new.index < self.tasks));
                    assert!(new, "a child's dependencies must be added before it");
                    self.stages[child.stage.0 as usize].tasks.push(self.tasks);
                    self.children.insert(self.tasks, child.clone());
                    self.tasks += 1;
                }
                let added = CallAnswer::Added(TasksAdded { first, count: add.children.len() as u32 });
                self.answers.insert((task, nonce), added.clone());
                added
            }
            CallRequest::Seal(seal) => {
                self.stages[seal.stage.0 as usize].sealed = true;
                self.answers.insert((task, nonce), CallAnswer::Sealed(Taken {}));
                CallAnswer::Sealed(Taken {})
            }
        }
    }
}
