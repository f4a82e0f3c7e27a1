//! A simulated coordinator: a real replica on a simulated disk, with its own clocks.

use super::disk::SimDisk;
use super::settings::Settings;
use muster_protocol::ids::RaftId;
use muster_replica::MemberConfig;
use muster_replica::disk::{Disk, DiskError};
use muster_replica::{Input, Now, Output, Replica, ReplicaConfig, ReplicaError};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

pub const CLUSTER: &str = "simulated";
/// Where wall clocks begin: a day in 2026.
const WALL_MS: i64 = 1_790_000_000_000;
/// So few that a follower which was down for a while needs a snapshot.
const SNAPSHOT_EVERY_ENTRIES: u64 = 40;
/// Entries that stay in the log after a snapshot.
const KEEP_ENTRIES: u64 = 6;

pub struct Coordinator {
    config: ReplicaConfig,
    replica: Option<Replica>,
    /// Survives crashes.
    pub disk: SimDisk,
    /// Counted from 1; events for earlier incarnations are dropped.
    pub incarnation: u32,
    /// It hangs until then.
    pub paused_until: u64,
    /// It stays down until the log has moved on without it.
    pub lost: bool,
    pub wall_offset_ms: i64,
    /// Inputs that wait for the next step.
    pub inbox: Vec<Input>,
    /// A step is scheduled.
    pub step_due: bool,
    started_ms: u64,
    /// How fast its monotonic clock runs, against 1,000.
    drift_per_mille: i64,
}

impl Coordinator {
    /// A cluster's coordinators, none of them running.
    pub fn all(settings: &Settings, random: &mut ChaCha8Rng) -> Vec<Coordinator> {
        let ids = 1..=settings.coordinators as u64;
        let member = |id: u64| MemberConfig {
            raft_id: RaftId(id),
            name: format!("c{id}"),
            peer: format!("c{id}:1"),
            http: format!("c{id}:2"),
        };
        let members: Vec<MemberConfig> = ids.clone().map(member).collect();
        let coordinator = |id: u64| {
            let mut config = ReplicaConfig::new(CLUSTER, RaftId(id), members.clone(), random.random());
            config.snapshot_every_entries = SNAPSHOT_EVERY_ENTRIES;
            config.keep_entries = KEEP_ENTRIES;
            config.report_applied = true;
            Coordinator {
                config,
                replica: None,
                disk: SimDisk::default(),
                incarnation: 0,
                paused_until: 0,
                lost: false,
                wall_offset_ms: 0,
                inbox: Vec::new(),
                step_due: false,
                started_ms: 0,
                drift_per_mille: random.random_range(-5..=5),
            }
        };
        ids.map(coordinator).collect()
    }

    /// Starts it with what its disk has.
    pub fn start(&mut self, now_ms: u64, random: &mut ChaCha8Rng) -> Result<(), ReplicaError> {
        self.incarnation += 1;
        self.started_ms = now_ms;
        self.inbox.clear();
        self.step_due = false;
        self.paused_until = 0;
        self.config.random_seed = random.random();
        let recovered = self.disk.recover().map_err(|error| ReplicaError::Disk(error.to_string()))?;
        self.replica = Some(Replica::new(self.config.clone(), recovered)?);
        Ok(())
    }

    pub fn crash(&mut self, random: &mut ChaCha8Rng) {
        self.replica = None;
        self.inbox.clear();
        self.disk.crash(random);
    }

    /// `None`: it is not running.
    pub fn replica(&self) -> Option<&Replica> {
        self.replica.as_ref()
    }

    /// Handles its inputs, and settles. An error means that it was killed during a disk operation; its
    /// outputs up to then count.
    pub fn step(&mut self, now_ms: u64, out: &mut dyn FnMut(Output)) -> Result<(), DiskError> {
        let now = Now {
            mono_ms: self.mono_ms(now_ms),
            wall_ms: u64::try_from(WALL_MS + self.wall_offset_ms).unwrap_or(0) + now_ms,
        };
        self.step_due = false;
        let Some(replica) = &mut self.replica else { return Ok(()) };
        for input in self.inbox.drain(..) {
            replica.handle(now, input, out);
        }
        replica.settle(now, &mut self.disk, out)
    }

    fn mono_ms(&self, now_ms: u64) -> u64 {
        (now_ms - self.started_ms) * (1_000 + self.drift_per_mille) as u64 / 1_000
    }
}
