//! The coordinators and workers of a local cluster, by index: started, killed, restarted.

use super::bus::Bus;
use super::child::Child;
use super::ports;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, thread};

/// How long a child may take to exit after SIGTERM.
const END_MS_MAX: u64 = 4_000;
/// Each worker has its own range of rendezvous ports.
const RENDEZVOUS_PORT_FIRST: u16 = 29_400;
const RENDEZVOUS_PORTS: u16 = 32;
/// Memory that the workers leave to the rest of the machine.
const MEMORY_KEPT_MIB: u64 = 1_024;

pub struct ClusterConfig {
    pub name: &'static str,
    pub coordinators: usize,
    pub workers: usize,
    /// CPUs of each worker; `None` for an equal share of the machine.
    pub cpus: Option<usize>,
    /// Of the first coordinator, if it is free.
    pub port: Option<u16>,
}

pub struct Cluster {
    config: ClusterConfig,
    directory: PathBuf,
    program: PathBuf,
    http: Vec<u16>,
    peer: Vec<u16>,
    /// By index; `None` while it does not run.
    pub coordinators: Vec<Option<Child>>,
    /// By index; `None` while it does not run.
    pub workers: Vec<Option<Child>>,
    // Dropped last: the others use it.
    pub bus: Bus,
}

impl Cluster {
    /// Starts the broker and the coordinators.
    pub async fn start(config: ClusterConfig, directory: &Path) -> Result<Cluster> {
        fs::create_dir_all(directory)
            .with_context(|| format!("make the directory {}", directory.display()))?;
        let directory =
            fs::canonicalize(directory).with_context(|| format!("find {}", directory.display()))?;
        let count = config.coordinators;
        let wishes = ports::successors(config.port, count)
            .chain(ports::successors(config.port.map(|port| port.saturating_add(100)), count))
            .chain([None]);
        let ports = ports::free(wishes)?;
        let (http, peer) = (ports[..count].to_vec(), ports[count..2 * count].to_vec());
        let bus = Bus::start(ports[2 * count], &directory).await?;
        let program = env::current_exe().context("find this program")?;
        let coordinators = (0..config.coordinators).map(|_| None).collect();
        let mut cluster =
            Cluster { config, directory, program, http, peer, coordinators, workers: Vec::new(), bus };
        for index in 0..cluster.config.coordinators {
            cluster.start_coordinator(index)?;
        }
        Ok(cluster)
    }

    pub fn coordinator_name(index: usize) -> String {
        format!("c{}", index + 1)
    }

    pub fn url(&self, index: usize) -> String {
        format!("http://127.0.0.1:{}", self.http[index])
    }

    /// All coordinators, separated by commas.
    pub fn urls(&self) -> String {
        (0..self.http.len()).map(|index| self.url(index)).collect::<Vec<_>>().join(",")
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts or restarts a coordinator.
    pub fn start_coordinator(&mut self, index: usize) -> Result<()> {
        let name = Cluster::coordinator_name(index);
        let member = |index: usize| {
            let (peer, http) = (self.peer[index], self.http[index]);
            format!("{}=127.0.0.1:{peer}/127.0.0.1:{http}", Cluster::coordinator_name(index))
        };
        let members: Vec<String> = (0..self.http.len()).map(member).collect();
        let flags = [
            ("--name", name.clone()),
            ("--cluster", self.config.name.to_string()),
            ("--data", self.path(&name)?),
            ("--http", format!("127.0.0.1:{}", self.http[index])),
            ("--peer", format!("127.0.0.1:{}", self.peer[index])),
            ("--members", members.join(",")),
            ("--nats", self.bus.url()),
        ];
        self.coordinators[index] = Some(self.spawn("coordinator", &name, &flags)?);
        Ok(())
    }

    /// Starts or restarts a worker; the index after the last one adds a worker.
    pub fn start_worker(&mut self, index: usize) -> Result<()> {
        let name = format!("w{}", index + 1);
        let share = self.config.workers.max(1);
        let cpus = self
            .config
            .cpus
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from).div_ceil(share));
        let port = usize::from(RENDEZVOUS_PORT_FIRST) + index * usize::from(RENDEZVOUS_PORTS);
        let mut flags = vec![
            ("--cluster", self.config.name.to_string()),
            ("--data", self.path(&name)?),
            ("--nats", self.bus.url()),
            ("--name", name.clone()),
            ("--address", "127.0.0.1".to_string()),
            ("--cpus", cpus.to_string()),
            ("--artifacts", self.path("artifacts")?),
            ("--rendezvous-port", port.to_string()),
            ("--rendezvous-ports", RENDEZVOUS_PORTS.to_string()),
            ("--drain", "2s".to_string()),
        ];
        if let Some(memory) = memory_mib() {
            flags.push((
                "--memory",
                format!("{}MiB", memory.saturating_sub(MEMORY_KEPT_MIB).max(512) / share as u64),
            ));
        }
        let child = self.spawn("worker", &name, &flags)?;
        if index == self.workers.len() {
            self.workers.push(None);
        }
        match self.workers.get_mut(index) {
            Some(worker) => *worker = Some(child),
            None => bail!("worker {name} does not follow the last one"),
        }
        Ok(())
    }

    fn path(&self, name: &str) -> Result<String> {
        let path = self.directory.join(name);
        path.to_str()
            .map(str::to_string)
            .with_context(|| format!("use {}, which is not UTF-8", path.display()))
    }

    fn spawn(&self, verb: &str, name: &str, flags: &[(&str, String)]) -> Result<Child> {
        let flags = flags.iter().flat_map(|(flag, value)| [flag.to_string(), value.clone()]);
        let arguments: Vec<String> = std::iter::once(verb.to_string()).chain(flags).collect();
        Child::start(name, &self.program, &arguments, &self.directory.join(format!("{name}.log")))
    }

    /// A child that exited unexpectedly: its name, its exit status and the end of its log.
    pub fn unexpected_exit(&mut self) -> Option<String> {
        let children = self.coordinators.iter_mut().chain(&mut self.workers).flatten();
        for child in children {
            if let Some(exit) = child.exit() {
                return Some(format!(
                    "{} ended ({exit})\nthe last output in {}:\n{}",
                    child.name,
                    child.log().display(),
                    child.log_tail()
                ));
            }
        }
        (!self.bus.is_running()).then(|| format!("{} ended", self.bus.name()))
    }

    /// Ends the workers, then the coordinators; kills what does not exit in time.
    pub async fn end(&mut self) {
        for children in [&mut self.workers, &mut self.coordinators] {
            for child in children.iter().flatten() {
                child.terminate();
            }
            for child in children.iter_mut().flatten() {
                if !child.await_end(Duration::from_millis(END_MS_MAX)).await {
                    child.kill();
                }
            }
            children.iter_mut().for_each(|child| drop(child.take()));
        }
    }
}

/// `MemTotal` of this machine.
fn memory_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024)
}
