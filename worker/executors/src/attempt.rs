//! The attempt that an executor runs in: its parameters, its agent, its artifacts, and what it may ask the
//! cluster.

use super::error::Error;
use super::params::Params;
use muster_attempt::artifacts::{Artifacts, job_dir};
use muster_attempt::{AttemptClient, RecordWriter, launch_from_env};
use muster_collective::Member;
use muster_host::compute::Compute;
use muster_protocol::attempt_call::{
    AddChildren, CallAnswer, CallRequest, FindStage, Found, KeyedRecord, Seal, StageOutputs, TaskOutput,
    TaskProgress,
};
use muster_protocol::bus::Launch;
use muster_protocol::envelope::TasksAdded;
use muster_protocol::ids::{Digest, StageIndex, TaskId};
use muster_protocol::spec::{ChildSpec, Work};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Nonces of questions that only read count up from here; those of questions that change something stand
/// below, fixed.
const READS_FROM: u64 = 1 << 32;
/// Threads at most, whatever was granted.
const THREADS_MAX: usize = 256;

/// An attempt at a task.
pub struct Attempt {
    /// What its agent was told.
    pub launch: Launch,
    /// The executor's parameters.
    pub params: Params,
    /// Where results are kept.
    pub artifacts: Artifacts,
    /// The cluster's name, as far as it is known.
    pub cluster: String,
    /// The job's own directory, which need not be there.
    job_dir: PathBuf,
    /// Where other workers reach this one: a host, without a port.
    pub address: String,
    client: AttemptClient,
    reads: u64,
    besides: u64,
}

impl Attempt {
    /// The attempt that the environment describes.
    pub fn from_env(executor: &str) -> Result<Attempt, Error> {
        let launch = launch_from_env()?;
        let artifacts = env::var_os("MUSTER_ARTIFACTS")
            .ok_or_else(|| Error::Unfit("find the artifacts: MUSTER_ARTIFACTS is not set".to_owned()))?;
        let cluster = env::var("MUSTER_CLUSTER").unwrap_or_default();
        let attempt =
            Attempt::new(executor, launch, cluster, Path::new(&artifacts), AttemptClient::from_env()?)?;
        Ok(Attempt { address: env::var("MUSTER_ADDRESS").unwrap_or(attempt.address), ..attempt })
    }

    /// An attempt with all that it needs.
    pub fn new(
        executor: &str,
        launch: Launch,
        cluster: String,
        artifacts: &Path,
        client: AttemptClient,
    ) -> Result<Attempt, Error> {
        let stage = match &launch.work {
            Work::Builtin(work) => work.params.as_str(),
            Work::Noop(_) | Work::Process(_) => "",
        };
        let params = Params::read(executor, &launch.job_params, stage, &launch.child_params)?;
        let job_dir = job_dir(artifacts, &cluster, launch.attempt.task.job);
        let artifacts = Artifacts::open(artifacts)?;
        let address = "127.0.0.1".to_owned();
        Ok(Attempt {
            launch,
            params,
            artifacts,
            cluster,
            job_dir,
            address,
            client,
            reads: READS_FROM,
            besides: 0,
        })
    }

    /// A file or directory that a parameter names: from the job's own directory, unless it is absolute.
    pub fn path(&self, named: &str) -> PathBuf {
        self.job_dir.join(named)
    }

    /// The same attempt over another connection, for another thread; what it asks is not mistaken for what we
    /// ask.
    pub fn beside(&mut self) -> Result<Attempt, Error> {
        self.besides += 1;
        let Attempt { launch, params, artifacts, cluster, job_dir, address, .. } = self;
        Ok(Attempt {
            launch: launch.clone(),
            params: params.clone(),
            artifacts: artifacts.clone(),
            cluster: cluster.clone(),
            job_dir: job_dir.clone(),
            address: address.clone(),
            client: self.client.another_connection()?,
            reads: READS_FROM * (1 + self.besides),
            besides: 0,
        })
    }

    /// The task.
    pub fn task(&self) -> TaskId {
        self.launch.attempt.task
    }

    /// A pool of as many threads as CPUs were granted.
    pub fn compute(&self) -> Result<Compute, Error> {
        let threads = self.launch.request.cpu_milli.div_ceil(1000).max(1) as usize;
        Ok(Compute::new(threads.min(THREADS_MAX))?)
    }

    /// Who we are in our gang.
    pub fn member(&self) -> Member {
        Member {
            cluster: self.cluster.clone(),
            job: self.task().job.to_string(),
            stage: self.launch.stage.0,
            formation: self.launch.gang.as_ref().map_or(0, |gang| gang.formation),
            rank: self.launch.rank,
            world: self.launch.world,
        }
    }

    /// A line for people, in the task's log.
    pub fn say(&self, line: &str) {
        // A log that can't be written is no reason to fail.
        let _ = writeln!(io::stdout(), "{line}");
    }

    /// Keeps a value as a JSON artifact.
    pub fn put_json<T: Serialize>(&self, value: &T) -> Result<Digest, Error> {
        Ok(self.artifacts.put(json(value)?.as_bytes())?)
    }

    /// Reads a JSON artifact.
    pub fn get_json<T: DeserializeOwned>(&self, hash: Digest) -> Result<T, Error> {
        let bytes = self.artifacts.get(hash)?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::Unfit(format!("read artifact {hash} as {}: {e}", std::any::type_name::<T>())))
    }

    /// Says what the output is, should the attempt succeed.
    pub fn output<T: Serialize>(&mut self, output: &T) -> Result<(), Error> {
        let output = json(output)?;
        self.say(&format!("output {output}"));
        Ok(self.client.output(output)?)
    }

    /// Records progress; with `wait` it is applied when this returns.
    pub fn record<T: Serialize>(
        &mut self,
        key: &str,
        seq: u64,
        payload: Digest,
        body: &T,
        wait: bool,
    ) -> Result<(), Error> {
        Ok(self.client.record(key, seq, payload, json(body)?, wait)?)
    }

    /// A writer of records beside this attempt, which waits for no record.
    pub fn pen(&self) -> Result<RecordWriter, Error> {
        Ok(RecordWriter::new(self.client.another_connection()?)?)
    }

    /// What `task` recorded under keys that begin with `prefix`: the newest of each.
    pub fn progress(&mut self, task: TaskId, prefix: &str) -> Result<Vec<KeyedRecord>, Error> {
        let what = || format!("read the progress of {task}");
        match self.read(what, CallRequest::TaskProgress(TaskProgress { task, prefix: prefix.to_owned() }))? {
            CallAnswer::Records(records) => Ok(records.records),
            other => Err(out_of_turn(what(), &other)),
        }
    }

    /// The outputs of a stage's tasks, in their order; it is an error if there is none.
    pub fn outputs_of<T: DeserializeOwned>(&mut self, stage: &str) -> Result<Vec<T>, Error> {
        let outputs = self.outputs(stage)?;
        if outputs.is_empty() {
            return Err(Error::Unfit(format!("read the outputs of stage `{stage}`: there is none")));
        }
        let read = |output: TaskOutput| {
            serde_json::from_str(&output.output).map_err(|e| {
                let task = output.task;
                Error::Unfit(format!("read the outputs of stage `{stage}`: that of {task} is none that this executor can use: {e}"))
            })
        };
        outputs.into_iter().map(read).collect()
    }

    /// How many tasks of a stage have succeeded.
    pub fn succeeded(&mut self, stage: &str) -> Result<usize, Error> {
        Ok(self.outputs(stage)?.len())
    }

    fn outputs(&mut self, stage: &str) -> Result<Vec<TaskOutput>, Error> {
        let what = || format!("read the outputs of stage `{stage}`");
        let mut values = Vec::new();
        let mut from = Some(0);
        while let Some(place) = from {
            let page = match self.read(
                what,
                CallRequest::StageOutputs(StageOutputs { stage: stage.to_owned(), from: place }),
            )? {
                CallAnswer::Outputs(page) => page,
                other => return Err(out_of_turn(what(), &other)),
            };
            values.extend(page.outputs);
            from = page.next.filter(|next| *next > place);
        }
        Ok(values)
    }

    /// The only output of a stage.
    pub fn output_of<T: DeserializeOwned>(&mut self, stage: &str) -> Result<T, Error> {
        let mut values = self.outputs_of(stage)?;
        match (values.pop(), values.is_empty()) {
            (Some(value), true) => Ok(value),
            (_, _) => {
                Err(Error::Unfit(format!("read the output of stage `{stage}`: it has more than one task")))
            }
        }
    }

    /// The stage of our job with that name.
    pub fn find_stage(&mut self, name: &str) -> Result<Found, Error> {
        let what = || format!("find the stage `{name}`");
        match self.read(what, CallRequest::FindStage(FindStage { name: name.to_owned() }))? {
            CallAnswer::Found(found) => Ok(found),
            other => Err(out_of_turn(what(), &other)),
        }
    }

    /// Adds children to open stages. `nonce` is the same in every attempt: a repeat adds nothing.
    pub fn add_children(&mut self, nonce: u64, children: Vec<ChildSpec>) -> Result<TasksAdded, Error> {
        let what = || "add tasks to the job".to_owned();
        match self.ask(what, nonce, CallRequest::AddChildren(AddChildren { children }))? {
            CallAnswer::Added(added) => Ok(added),
            other => Err(out_of_turn(what(), &other)),
        }
    }

    /// Seals a stage. `nonce` is the same in every attempt.
    pub fn seal(&mut self, nonce: u64, stage: StageIndex) -> Result<(), Error> {
        let what = || format!("seal stage {}", stage.0);
        match self.ask(what, nonce, CallRequest::Seal(Seal { stage }))? {
            CallAnswer::Sealed(_) => Ok(()),
            other => Err(out_of_turn(what(), &other)),
        }
    }

    fn read(&mut self, what: impl Fn() -> String, request: CallRequest) -> Result<CallAnswer, Error> {
        self.reads += 1;
        self.ask(what, self.reads, request)
    }

    fn ask(
        &mut self,
        what: impl Fn() -> String,
        nonce: u64,
        request: CallRequest,
    ) -> Result<CallAnswer, Error> {
        match self.client.ask(nonce, request)? {
            CallAnswer::Rejected(rejection) => Err(Error::Rejected { what: what(), rejection }),
            answer => Ok(answer),
        }
    }
}

fn out_of_turn(what: String, answer: &CallAnswer) -> Error {
    Error::OutOfTurn { what, answer: answer.name() }
}

fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|e| Error::Unfit(format!("write {} as JSON: {e}", std::any::type_name::<T>())))
}
