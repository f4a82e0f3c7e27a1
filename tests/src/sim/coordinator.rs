//! A simulated coordinator: a real replica, on a simulated disk, with clocks of its own.

use super::disk::SimDisk;
use super::settings::Settings;
use muster_protocol::ids::RaftId;
use muster_replica::MemberConfig;
use muster_replica::disk::{Disk, DiskError};
use muster_replica::{Input, Now, Output, Replica, ReplicaConfig, ReplicaError};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The cluster's name.
pub const CLUSTER: &str = "simulated";
/// A wall clock to begin with: some day in 2026.
const WALL_MS: i64 = 1_790_000_000_000;
/// Snapshots come so often that a follower that was away needs one.
const SNAPSHOT_EVERY_ENTRIES: u64 = 40;
/// Entries that a snapshot leaves.
const KEEP_ENTRIES: u64 = 6;

/// A coordinator, running or not.
pub struct Coordinator {
    config: ReplicaConfig,
    replica: Option<Replica>,
    /// Outlives the process.
    pub disk: SimDisk,
    /// Counted from 1; what was meant for an earlier life is dropped.
    pub life: u32,
    /// It does nothing until then: a machine that hangs.
    pub paused_until: u64,
    /// It is away until the log has gone on without it.
    pub lost: bool,
    /// What its wall clock is wrong by.
    pub wall_off_ms: i64,
    /// What arrived and was not handled yet.
    pub inbox: Vec<Input>,
    /// A step is on its way.
    pub step_due: bool,
    began: u64,
    /// Its monotonic clock is wrong by so many thousandths.
    drift_per_mille: i64,
}

impl Coordinator {
    /// All of a cluster's coordinators, none of them running.
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
                life: 0,
                paused_until: 0,
                lost: false,
                wall_off_ms: 0,
                inbox: Vec::new(),
                step_due: false,
                began: 0,
                drift_per_mille: random.random_range(-5..=5),
            }
        };
        ids.map(coordinator).collect()
    }

    /// Starts it from its disk.
    pub fn start(&mut self, now_ms: u64, random: &mut ChaCha8Rng) -> Result<(), ReplicaError> {
        self.life += 1;
        self.began = now_ms;
        self.inbox.clear();
        self.step_due = false;
        self.paused_until = 0;
        self.config.random_seed = random.random();
        let recovered = self.disk.recover().map_err(|error| ReplicaError::Disk(error.to_string()))?;
        self.replica = Some(Replica::new(self.config.clone(), recovered)?);
        Ok(())
    }

    /// Kills it where it stands.
    pub fn crash(&mut self, random: &mut ChaCha8Rng) {
        self.replica = None;
        self.inbox.clear();
        self.disk.crash(random);
    }

    /// The running replica.
    pub fn replica(&self) -> Option<&Replica> {
        self.replica.as_ref()
    }

    /// Handles what arrived, and settles. An error means that it was killed in the midst of it; what was
    /// given out before is out.
    pub fn step(&mut self, now_ms: u64, out: &mut dyn FnMut(Output)) -> Result<(), DiskError> {
        let now = Now {
            mono_ms: self.mono_ms(now_ms),
            wall_ms: u64::try_from(WALL_MS + self.wall_off_ms).unwrap_or(0) + now_ms,
        };
        self.step_due = false;
        let Some(replica) = &mut self.replica else { return Ok(()) };
        for input in self.inbox.drain(..) {
            replica.handle(now, input, out);
        }
        replica.settle(now, &mut self.disk, out)
    }

    fn mono_ms(&self, now_ms: u64) -> u64 {
        (now_ms - self.began) * (1_000 + self.drift_per_mille) as u64 / 1_000
    }
}
