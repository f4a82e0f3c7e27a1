//! Real processes on loopback: coordinators, workers and a broker, each with its data in a temporary
//! directory.
//!
//! Its one job is to start, kill and ask them, and to leave nothing behind: every process ends with the value
//! that stands for it, by its own process id, also when a test panics or the test program is killed. It must
//! never look inside a process, and never wait for a time to pass: it waits for progress, and gives up when
//! there is none ([`patience`]).
//!
//! What the choice costs: one cluster at a time on a machine ([`permit`]), since elections between starved
//! processes prove nothing.

pub mod api;
pub mod binary;
pub mod broker;
pub mod patience;
pub mod permit;
pub mod ports;
pub mod process;
pub mod shape;

pub use api::Api;
pub use broker::BrokerKind;
pub use patience::wait_for;
pub use process::Process;
pub use shape::Shape;

use broker::Broker;
use permit::Permit;
use shape::Member;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, a port or a process of the harness itself.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The binary could not be built.
    #[error("build the binary muster, which the tests run")]
    Build,
}

impl Error {
    /// An error of the system, with what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        |source| Error::Io { what: what.into(), source }
    }
}

/// A running cluster. Dropped, it kills its processes; after a panic it shows the ends of their logs first.
pub struct Cluster {
    shape: Shape,
    directory: TempDir,
    binary: PathBuf,
    members: Vec<Member>,
    coordinators: Vec<Option<Process>>,
    workers: Vec<Option<Process>>,
    broker: Option<Broker>,
    /// Kept last: the next cluster may start once everything above has ended.
    _permit: Permit,
}

impl Cluster {
    /// Starts a cluster, and returns once it has a leader and its workers are registered.
    pub fn start(shape: Shape) -> Result<Cluster, Error> {
        let permit = Permit::take()?;
        let binary = binary::muster()?;
        let directory = tempfile::Builder::new()
            .prefix("muster-test-")
            .tempdir()
            .map_err(Error::io("make a directory"))?;
        let ports = ports::free(2 * shape.coordinators + 1)?;
        let members = Member::all(&ports);
        let broker = Broker::start(shape.broker, ports[0], &binary, directory.path())?;
        let mut cluster = Cluster {
            shape,
            directory,
            binary,
            members,
            coordinators: (0..shape.coordinators).map(|_| None).collect(),
            workers: (0..shape.workers).map(|_| None).collect(),
            broker: Some(broker),
            _permit: permit,
        };
        for index in 0..shape.coordinators {
            cluster.start_coordinator(index)?;
        }
        cluster.leader();
        for index in 0..shape.workers {
            cluster.start_worker(index)?;
        }
        cluster.await_workers(shape.workers);
        Ok(cluster)
    }

    /// Where everything of this cluster lies.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// How many coordinators there are, running or not.
    pub fn coordinators(&self) -> usize {
        self.members.len()
    }

    /// How many workers there are, running or not.
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// A coordinator's data directory.
    pub fn coordinator_data(&self, index: usize) -> PathBuf {
        self.directory.path().join(&self.members[index].name)
    }

    /// A worker's data directory.
    pub fn worker_data(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("w{}", index + 1))
    }

    /// A coordinator's name and addresses.
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// The command line of a coordinator.
    pub fn coordinator_arguments(&self, index: usize) -> Vec<String> {
        let member = &self.members[index];
        let members: Vec<String> = self.members.iter().map(Member::flag).collect();
        let data = self.coordinator_data(index).display().to_string();
        let flags = [
            ("--name", member.name.clone()),
            ("--cluster", self.shape.name.to_string()),
            ("--data", data),
            ("--http", member.http.to_string()),
            ("--peer", member.peer.to_string()),
            ("--members", members.join(",")),
            ("--nats", self.nats()),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]);
        std::iter::once("coordinator".to_string()).chain(flags).collect()
    }

    /// Starts a coordinator that is not running.
    pub fn start_coordinator(&mut self, index: usize) -> Result<(), Error> {
        let log = self.directory.path().join(format!("{}.log", self.members[index].name));
        self.coordinators[index] =
            Some(Process::start(&self.binary, &self.coordinator_arguments(index), &log)?);
        Ok(())
    }

    /// The command line of a worker.
    pub fn worker_arguments(&self, index: usize) -> Vec<String> {
        let flags = [
            ("--cluster", self.shape.name.to_string()),
            ("--data", self.worker_data(index).display().to_string()),
            ("--nats", self.nats()),
            ("--name", format!("w{}", index + 1)),
            ("--address", "127.0.0.1".to_string()),
            ("--cpus", self.shape.worker_cpus.to_string()),
            ("--memory", "2GiB".to_string()),
            ("--artifacts", self.directory.path().join("artifacts").display().to_string()),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]);
        std::iter::once("worker".to_string()).chain(flags).collect()
    }

    /// Starts a worker that is not running; one more than there are makes a new one.
    pub fn start_worker(&mut self, index: usize) -> Result<(), Error> {
        let log = self.directory.path().join(format!("w{}.log", index + 1));
        let process = Process::start(&self.binary, &self.worker_arguments(index), &log)?;
        if index == self.workers.len() {
            self.workers.push(None);
        }
        self.workers[index] = Some(process);
        Ok(())
    }

    /// Ends a coordinator with SIGKILL, and waits until it is gone.
    pub fn kill_coordinator(&mut self, index: usize) {
        drop(self.coordinators[index].take());
    }

    /// Ends a worker's agent with SIGKILL, and waits until it is gone.
    pub fn kill_worker(&mut self, index: usize) {
        drop(self.workers[index].take());
    }

    /// A running worker's agent.
    pub fn worker(&mut self, index: usize) -> &mut Process {
        self.workers[index].as_mut().expect("the worker runs")
    }

    /// A running coordinator.
    pub fn coordinator(&mut self, index: usize) -> &mut Process {
        self.coordinators[index].as_mut().expect("the coordinator runs")
    }

    /// Ends the broker with SIGKILL.
    pub fn kill_broker(&mut self) {
        drop(self.broker.take());
    }

    /// The running broker.
    pub fn broker(&self) -> &Process {
        self.broker.as_ref().expect("the broker runs").process()
    }

    /// Starts the broker again, on the same port.
    pub fn start_broker(&mut self) -> Result<(), Error> {
        self.broker = Some(Broker::start(
            self.shape.broker,
            self.members[0].broker_port,
            &self.binary,
            self.directory.path(),
        )?);
        Ok(())
    }

    /// The broker's address.
    pub fn nats(&self) -> String {
        format!("nats://127.0.0.1:{}", self.members[0].broker_port)
    }

    /// A coordinator's API.
    pub fn api(&self, index: usize) -> Api {
        Api::new(self.members[index].http)
    }

    /// Whether a coordinator is running, as far as the harness knows.
    pub fn is_running(&self, index: usize) -> bool {
        self.coordinators[index].is_some()
    }

    /// The leader that a majority of all coordinators agrees on; waits until there is one.
    pub fn leader(&self) -> usize {
        wait_for("a leader", || {
            let mut seen = Vec::new();
            for index in (0..self.members.len()).filter(|index| self.is_running(*index)) {
                match self.api(index).status() {
                    Ok(status) => seen.push((status.leader, status.term)),
                    Err(error) => seen.push((format!("({error})"), Default::default())),
                }
            }
            let agreed = self.members.iter().position(|member| {
                let votes = seen.iter().filter(|(leader, _)| *leader == member.name).count();
                votes * 2 > self.members.len()
            });
            agreed.filter(|index| self.is_running(*index)).ok_or(format!("{seen:?}"))
        })
    }

    /// Waits until so many workers are alive.
    pub fn await_workers(&self, count: usize) {
        wait_for(&format!("{count} workers"), || {
            let leader = self.leader();
            let workers = self.api(leader).workers().map_err(|error| error.to_string())?;
            let alive = workers.iter().filter(|worker| worker.liveness.word() == "alive").count();
            if alive >= count { Ok(()) } else { Err(format!("{alive} are alive")) }
        });
    }

    /// Runs a verb of the client against a coordinator, to its end.
    pub fn muster_at(&self, index: usize, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env("MUSTER_URL", format!("http://{}", self.members[index].http))
            .env_remove("RUST_LOG");
        command.stdin(Stdio::null()).output().expect("the binary can be run")
    }

    /// Runs a verb of the client against the first running coordinator, to its end.
    pub fn muster(&self, arguments: &[&str]) -> Output {
        let index =
            (0..self.members.len()).find(|index| self.is_running(*index)).expect("a coordinator runs");
        self.muster_at(index, arguments)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            process::show_ends_of_logs(self.directory.path());
        }
        // Agents first: what they run ends with them.
        self.workers.clear();
        self.coordinators.clear();
        self.broker = None;
    }
}
