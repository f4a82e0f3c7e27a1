//! A running cluster.

use super::api::Api;
use super::binary;
use super::broker::Broker;
use super::error::Error;
use super::permit::Permit;
use super::ports;
use super::process::{self, Process};
use super::progress_wait::wait_for;
use super::shape::{Member, Shape};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Dropped, it kills its processes; after a panic it first prints the ends of their logs.
pub struct Cluster {
    shape: Shape,
    directory: TempDir,
    binary: PathBuf,
    members: Vec<Member>,
    coordinators: Vec<Option<Process>>,
    workers: Vec<Option<Process>>,
    broker: Option<Broker>,
    /// Dropped last: the next cluster may start once everything above has ended.
    _permit: Permit,
}

impl Cluster {
    /// Starts a cluster; returns once it has a leader and its workers are registered.
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

    /// The directory that holds all data and logs of this cluster.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The number of coordinators, running or not.
    pub fn coordinators(&self) -> usize {
        self.members.len()
    }

    /// The number of workers, running or not.
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    pub fn coordinator_data(&self, index: usize) -> PathBuf {
        self.directory.path().join(&self.members[index].name)
    }

    pub fn worker_data(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("w{}", index + 1))
    }

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

    /// Starts a worker that is not running; the index after the last one adds a worker.
    pub fn start_worker(&mut self, index: usize) -> Result<(), Error> {
        let log = self.directory.path().join(format!("w{}.log", index + 1));
        let process = Process::start(&self.binary, &self.worker_arguments(index), &log)?;
        if index == self.workers.len() {
            self.workers.push(None);
        }
        self.workers[index] = Some(process);
        Ok(())
    }

    /// Kills a coordinator with SIGKILL, and waits for its end.
    pub fn kill_coordinator(&mut self, index: usize) {
        drop(self.coordinators[index].take());
    }

    /// Kills a worker's agent with SIGKILL, and waits for its end.
    pub fn kill_worker(&mut self, index: usize) {
        drop(self.workers[index].take());
    }

    pub fn worker(&mut self, index: usize) -> &mut Process {
        self.workers[index].as_mut().expect("the worker runs")
    }

    pub fn coordinator(&mut self, index: usize) -> &mut Process {
        self.coordinators[index].as_mut().expect("the coordinator runs")
    }

    /// Kills the broker with SIGKILL.
    pub fn kill_broker(&mut self) {
        drop(self.broker.take());
    }

    pub fn broker(&self) -> &Process {
        self.broker.as_ref().expect("the broker runs").process()
    }

    /// Restarts the broker on the same port.
    pub fn start_broker(&mut self) -> Result<(), Error> {
        self.broker = Some(Broker::start(
            self.shape.broker,
            self.members[0].broker_port,
            &self.binary,
            self.directory.path(),
        )?);
        Ok(())
    }

    pub fn nats(&self) -> String {
        format!("nats://127.0.0.1:{}", self.members[0].broker_port)
    }

    pub fn api(&self, index: usize) -> Api {
        Api::new(self.members[index].http)
    }

    /// Whether a coordinator was started and not killed.
    pub fn is_running(&self, index: usize) -> bool {
        self.coordinators[index].is_some()
    }

    /// Waits until a majority of all coordinators agrees on a leader, and returns it.
    pub fn leader(&self) -> usize {
        wait_for("a leader", || {
            let mut views = Vec::new();
            for index in (0..self.members.len()).filter(|index| self.is_running(*index)) {
                match self.api(index).status() {
                    Ok(status) => views.push((status.leader, status.term)),
                    Err(error) => views.push((format!("({error})"), Default::default())),
                }
            }
            let agreed = self.members.iter().position(|member| {
                let votes = views.iter().filter(|(leader, _)| *leader == member.name).count();
                votes * 2 > self.members.len()
            });
            agreed.filter(|index| self.is_running(*index)).ok_or(format!("{views:?}"))
        })
    }

    /// Waits until `count` workers are alive.
    pub fn await_workers(&self, count: usize) {
        wait_for(&format!("{count} workers"), || {
            let leader = self.leader();
            let workers = self.api(leader).workers().map_err(|error| error.to_string())?;
            let alive = workers.iter().filter(|worker| worker.liveness.word() == "alive").count();
            if alive >= count { Ok(()) } else { Err(format!("{alive} are alive")) }
        });
    }

    /// Runs `muster` as a client of a coordinator.
    pub fn muster_at(&self, index: usize, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env("MUSTER_URL", format!("http://{}", self.members[index].http))
            .env_remove("RUST_LOG");
        command.stdin(Stdio::null()).output().expect("the binary can be run")
    }

    /// Runs `muster` as a client of the first running coordinator.
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
        // Agents first: their attempts end with them.
        self.workers.clear();
        self.coordinators.clear();
        self.broker = None;
    }
}
