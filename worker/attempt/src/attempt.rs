//! The attempt that an executor runs in: what its agent was told, its artifacts, and what it may ask the
//! cluster.
//!
//! Executors read their own parameters; here they are the JSON texts of the launch.

use crate::artifacts::{self, Artifacts, job_dir};
use crate::client::{AttemptClient, ClientError, launch_from_env};
use crate::record_writer::RecordWriter;
use muster_protocol::attempt_call::{
    AddChildren, CallAnswer, CallRequest, FindStage, Found, KeyedRecord, Seal, StageOutputs, TaskOutput,
    TaskProgress,
};
use muster_protocol::bus::Launch;
use muster_protocol::envelope::TasksAdded;
use muster_protocol::ids::{Digest, StageIndex, TaskId};
use muster_protocol::rejection::Rejection;
use muster_protocol::spec::{ChildSpec, Work};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;
use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Questions that only read get nonces from here on, so that none meets the fixed nonce of a question that
/// changes something.
const FIRST_READ_NONCE: u64 = 1 << 32;

/// An attempt could not read or write what it needs.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The agent can't be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An artifact can't be kept or read.
    #[error(transparent)]
    Artifact(#[from] artifacts::Error),
    /// No artifact directory is known.
    #[error("find the artifacts: MUSTER_ARTIFACTS is not set")]
    NoArtifacts,
    /// The cluster said no.
    #[error("{request}: the cluster refused: {rejection}")]
    Rejected {
        /// What was asked.
        request: String,
        /// The reason.
        rejection: Rejection,
    },
    /// The cluster answered another question.
    #[error("{request}: the cluster answered {answer}")]
    UnexpectedAnswer {
        /// What was asked.
        request: String,
        /// The kind of the answer.
        answer: &'static str,
    },
    /// No task of the stage has left an output.
    #[error("read the outputs of stage `{stage}`: no task of it has one yet; is it in `needs`?")]
    NoOutputs {
        /// The stage.
        stage: String,
    },
    /// The output is of another executor.
    #[error(
        "read the outputs of stage `{stage}`: that of {task} is not one that this executor can use: {source}"
    )]
    UnusableOutput {
        /// The stage.
        stage: String,
        /// Its task.
        task: TaskId,
        /// Why not.
        source: serde_json::Error,
    },
    /// Only one output is of use.
    #[error("read the output of stage `{stage}`: it has more than one task")]
    SeveralOutputs {
        /// The stage.
        stage: String,
    },
    /// The artifact holds something else.
    #[error("read artifact {hash} as {as_type}: {source}")]
    Decode {
        /// The artifact.
        hash: Digest,
        /// What it should hold.
        as_type: &'static str,
        /// Why it does not.
        source: serde_json::Error,
    },
    /// The value can't be JSON.
    #[error("write {of_type} as JSON: {source}")]
    Encode {
        /// What was to be written.
        of_type: &'static str,
        /// Why it can't be.
        source: serde_json::Error,
    },
}

/// An attempt at a task.
pub struct Attempt {
    /// What its agent was told.
    pub launch: Launch,
    /// Where results are kept.
    pub artifacts: Artifacts,
    /// The cluster's name; empty if it is not known.
    pub cluster: String,
    /// Where other workers reach this one: a host, without a port.
    pub address: String,
    /// The job's own directory, which may not exist yet.
    job_dir: PathBuf,
    client: AttemptClient,
    reads: u64,
    clones: u64,
}

impl Attempt {
    /// The attempt that the environment describes.
    ///
    /// # Errors
    /// If this process was not started by an agent, or the agent or the artifacts can't be reached.
    pub fn from_env() -> Result<Attempt, AttemptError> {
        let launch = launch_from_env()?;
        let artifacts = env::var_os("MUSTER_ARTIFACTS").ok_or(AttemptError::NoArtifacts)?;
        let cluster = env::var("MUSTER_CLUSTER").unwrap_or_default();
        let attempt = Attempt::new(launch, cluster, Path::new(&artifacts), AttemptClient::from_env()?)?;
        Ok(Attempt { address: env::var("MUSTER_ADDRESS").unwrap_or(attempt.address), ..attempt })
    }

    /// An attempt whose artifacts lie in the directory `artifacts`.
    ///
    /// # Errors
    /// If that directory can't be used.
    pub fn new(
        launch: Launch,
        cluster: String,
        artifacts: &Path,
        client: AttemptClient,
    ) -> Result<Attempt, AttemptError> {
        let job_dir = job_dir(artifacts, &cluster, launch.attempt.task.job);
        let artifacts = Artifacts::open(artifacts)?;
        let address = "127.0.0.1".to_owned();
        Ok(Attempt {
            launch,
            artifacts,
            cluster,
            address,
            job_dir,
            client,
            reads: FIRST_READ_NONCE,
            clones: 0,
        })
    }

    /// The same attempt over another connection, for another thread. Its questions have nonces of their own.
    ///
    /// # Errors
    /// If the agent accepts no other connection.
    pub fn try_clone(&mut self) -> Result<Attempt, AttemptError> {
        self.clones += 1;
        let Attempt { launch, artifacts, cluster, job_dir, address, .. } = self;
        Ok(Attempt {
            launch: launch.clone(),
            artifacts: artifacts.clone(),
            cluster: cluster.clone(),
            address: address.clone(),
            job_dir: job_dir.clone(),
            client: self.client.another_connection()?,
            reads: FIRST_READ_NONCE * (1 + self.clones),
            clones: 0,
        })
    }

    /// The task.
    pub fn task(&self) -> TaskId {
        self.launch.attempt.task
    }

    /// The stage's parameters: a JSON object, or empty.
    pub fn stage_params(&self) -> &str {
        match &self.launch.work {
            Work::Builtin(work) => &work.params,
            Work::Noop(_) | Work::Process(_) => "",
        }
    }

    /// A file or directory that a parameter names: from the job's own directory, unless it is absolute.
    pub fn path(&self, named: &str) -> PathBuf {
        self.job_dir.join(named)
    }

    /// Writes a line into the task's log.
    pub fn say(&self, line: &str) {
        // A log that can't be written is no reason to fail.
        let _ = writeln!(io::stdout(), "{line}");
    }

    /// Keeps a value as a JSON artifact.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn put_json<T: Serialize>(&self, value: &T) -> Result<Digest, AttemptError> {
        Ok(self.artifacts.put(to_json(value)?.as_bytes())?)
    }

    /// Reads a JSON artifact.
    ///
    /// # Errors
    /// If it is gone, or holds something else.
    pub fn get_json<T: DeserializeOwned>(&self, hash: Digest) -> Result<T, AttemptError> {
        let bytes = self.artifacts.get(hash)?;
        serde_json::from_slice(&bytes).map_err(|source| AttemptError::Decode {
            hash,
            as_type: type_name::<T>(),
            source,
        })
    }

    /// Sets the output that the task has if this attempt succeeds.
    ///
    /// # Errors
    /// If the agent refuses it.
    pub fn output<T: Serialize>(&mut self, output: &T) -> Result<(), AttemptError> {
        let output = to_json(output)?;
        self.say(&format!("output {output}"));
        Ok(self.client.output(output)?)
    }

    /// Records progress. With `wait` it returns once the record is applied, else at once.
    ///
    /// # Errors
    /// If the agent refuses it.
    pub fn record<T: Serialize>(
        &mut self,
        key: &str,
        seq: u64,
        payload: Digest,
        body: &T,
        wait: bool,
    ) -> Result<(), AttemptError> {
        Ok(self.client.record(key, seq, payload, to_json(body)?, wait)?)
    }

    /// A writer of records with a thread and a connection of its own.
    ///
    /// # Errors
    /// If the agent accepts no other connection, or the system no other thread.
    pub fn record_writer(&self) -> Result<RecordWriter, AttemptError> {
        Ok(RecordWriter::new(self.client.another_connection()?)?)
    }

    /// The newest record of each key that begins with `prefix`, of any attempt at `task`.
    ///
    /// # Errors
    /// If the cluster refuses.
    pub fn progress(&mut self, task: TaskId, prefix: &str) -> Result<Vec<KeyedRecord>, AttemptError> {
        let what = || format!("read the progress of {task}");
        match self.read(what, CallRequest::TaskProgress(TaskProgress { task, prefix: prefix.to_owned() }))? {
            CallAnswer::Records(records) => Ok(records.records),
            other => Err(unexpected(what(), &other)),
        }
    }

    /// The outputs of a stage's tasks, in their order; at least one.
    ///
    /// # Errors
    /// If there is none, or one that is not a `T`.
    pub fn outputs_of<T: DeserializeOwned>(&mut self, stage: &str) -> Result<Vec<T>, AttemptError> {
        let outputs = self.outputs(stage)?;
        if outputs.is_empty() {
            return Err(AttemptError::NoOutputs { stage: stage.to_owned() });
        }
        let read = |output: TaskOutput| {
            serde_json::from_str(&output.output).map_err(|source| AttemptError::UnusableOutput {
                stage: stage.to_owned(),
                task: output.task,
                source,
            })
        };
        outputs.into_iter().map(read).collect()
    }

    /// How many tasks of a stage have succeeded.
    ///
    /// # Errors
    /// If the cluster refuses.
    pub fn succeeded(&mut self, stage: &str) -> Result<usize, AttemptError> {
        Ok(self.outputs(stage)?.len())
    }

    fn outputs(&mut self, stage: &str) -> Result<Vec<TaskOutput>, AttemptError> {
        let what = || format!("read the outputs of stage `{stage}`");
        let mut values = Vec::new();
        let mut from = Some(0);
        while let Some(place) = from {
            let page = match self.read(
                what,
                CallRequest::StageOutputs(StageOutputs { stage: stage.to_owned(), from: place }),
            )? {
                CallAnswer::Outputs(page) => page,
                other => return Err(unexpected(what(), &other)),
            };
            values.extend(page.outputs);
            from = page.next.filter(|next| *next > place);
        }
        Ok(values)
    }

    /// The output of a stage's only task.
    ///
    /// # Errors
    /// If there is none, more than one, or one that is not a `T`.
    pub fn output_of<T: DeserializeOwned>(&mut self, stage: &str) -> Result<T, AttemptError> {
        let mut values = self.outputs_of(stage)?;
        match (values.pop(), values.is_empty()) {
            (Some(value), true) => Ok(value),
            (_, _) => Err(AttemptError::SeveralOutputs { stage: stage.to_owned() }),
        }
    }

    /// The stage of our job with that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn find_stage(&mut self, name: &str) -> Result<Found, AttemptError> {
        let what = || format!("find the stage `{name}`");
        match self.read(what, CallRequest::FindStage(FindStage { name: name.to_owned() }))? {
            CallAnswer::Found(found) => Ok(found),
            other => Err(unexpected(what(), &other)),
        }
    }

    /// Adds children to open stages. `nonce` is the same in every attempt: a repeat adds nothing.
    ///
    /// # Errors
    /// If the cluster refuses.
    pub fn add_children(&mut self, nonce: u64, children: Vec<ChildSpec>) -> Result<TasksAdded, AttemptError> {
        let what = || "add tasks to the job".to_owned();
        match self.ask(what, nonce, CallRequest::AddChildren(AddChildren { children }))? {
            CallAnswer::Added(added) => Ok(added),
            other => Err(unexpected(what(), &other)),
        }
    }

    /// Seals a stage. `nonce` is the same in every attempt.
    ///
    /// # Errors
    /// If the cluster refuses.
    pub fn seal(&mut self, nonce: u64, stage: StageIndex) -> Result<(), AttemptError> {
        let what = || format!("seal stage {}", stage.0);
        match self.ask(what, nonce, CallRequest::Seal(Seal { stage }))? {
            CallAnswer::Sealed(_) => Ok(()),
            other => Err(unexpected(what(), &other)),
        }
    }

    fn read(&mut self, what: impl Fn() -> String, request: CallRequest) -> Result<CallAnswer, AttemptError> {
        self.reads += 1;
        self.ask(what, self.reads, request)
    }

    fn ask(
        &mut self,
        what: impl Fn() -> String,
        nonce: u64,
        request: CallRequest,
    ) -> Result<CallAnswer, AttemptError> {
        match self.client.ask(nonce, request)? {
            CallAnswer::Rejected(rejection) => Err(AttemptError::Rejected { request: what(), rejection }),
            answer => Ok(answer),
        }
    }
}

fn unexpected(request: String, answer: &CallAnswer) -> AttemptError {
    AttemptError::UnexpectedAnswer { request, answer: answer.name() }
}

fn to_json<T: Serialize>(value: &T) -> Result<String, AttemptError> {
    serde_json::to_string(value).map_err(|source| AttemptError::Encode { of_type: type_name::<T>(), source })
}
