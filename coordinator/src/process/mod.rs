//! The coordinator as a process: it opens the store, starts the replica on a thread of its own, and joins it
//! with its sockets.
//!
//! All sockets belong to tokio, and all decisions to the replica's thread; between them are bounded queues.
//! When the disk fails or the core must not go on, the process ends and says why: a coordinator that hangs
//! helps nobody.

mod complaints;
mod inlet;
mod replica;

pub use complaints::Complaints;
#[cfg(test)]
pub use inlet::Told;
pub use inlet::{Inlet, Refused};
pub use replica::Standing;

use crate::api::{self, Api, Tails};
use crate::bus::{self, BusError};
use crate::config::{Config, ConfigError};
use crate::peers;
use crate::store::{Store, StoreError, StoreIdentity};
use muster_protocol::ids::{LogIndex, Term};
use muster_replica::disk::{Disk, DiskError};
use muster_replica::{Core, CoreConfig, CoreError, Role};
use replica::{Replica, Surroundings};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, thread};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

/// Requests that are under way when a coordinator ends have so long to get their answers.
const GOODBYE: Duration = Duration::from_millis(1_500);

/// Why a coordinator did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What it was told cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its disk failed, or holds what was not written.
    #[error("the disk of this coordinator failed: {0}")]
    Disk(#[from] DiskError),
    /// The core refuses to start.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A port.
    #[error("listen on {address} for {whom}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// For whom.
        whom: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The API ended.
    #[error("serve the API: {0}")]
    Serve(io::Error),
    /// The core found that to go on could only do harm.
    #[error("this coordinator stops serving: {reason}")]
    Halted {
        /// Why.
        reason: String,
    },
    /// A thread could not be started.
    #[error("start the replica's thread: {0}")]
    Thread(io::Error),
    /// A bug.
    #[error("the replica's thread panicked; the log says where")]
    Panicked,
}

/// Runs a coordinator until `shutdown` is over, or until it cannot go on.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    config.validate()?;
    let me = config.me()?.clone();
    let (downlink, bus, bus_ends) = bus::prepare(&config.cluster, &config.name, &config.nats)?;

    // The store first: of two coordinators on one directory, the second hears of the first, and not of a port
    // in use.
    let identity =
        StoreIdentity { cluster: config.cluster.clone(), name: config.name.clone(), raft_id: me.raft_id };
    let data = config.data.clone();
    let opened = spawn_blocking(move || {
        let mut store = Store::open(&data, &identity)?;
        let recovered = store.recover()?;
        Ok::<_, RunError>((store, recovered))
    });
    let (store, recovered) = opened.await.map_err(|_| RunError::Panicked)??;
    let peer_listener = listen(config.peer, "other coordinators").await?;
    let http_listener = listen(config.http, "people and programs").await?;
    let settings = CoreConfig::new(&config.cluster, me.raft_id, config.members.clone(), random_seed());
    let tick = Duration::from_millis(settings.tick_ms);
    let ledger = store.reader();

    let mut tasks = JoinSet::new();
    let (sender, told) = sync_channel(inlet::WAITING_MAX);
    let inlet = Inlet::new(sender);
    let identity = peers::Identity::new(&config, &me);
    let outgoing = peers::connect(&identity, &mut tasks);
    let peer_counters = outgoing.counters();
    let tails = Tails::default();
    let (standing, standing_seen) =
        watch::channel(Standing { role: Role::Follower, leader: None, term: Term(0) });
    let (applied, applied_seen) = watch::channel(LogIndex(0));
    let (end, ending) = watch::channel(false);
    let around = Surroundings { peers: outgoing, downlink, tails: tails.clone(), standing, applied };

    let (ended, mut end_of_replica) = oneshot::channel();
    let started = thread::Builder::new().name("replica".to_string()).spawn(move || {
        let run = || {
            let core = Core::new(settings, recovered)?;
            Replica { core, disk: store, told, around, tick }.run()
        };
        // An error means that nobody waits any more; a panic drops the sender, which is noticed.
        let _ = ended.send(run());
    });
    let thread = started.map_err(RunError::Thread)?;

    tasks.spawn(peers::serve(peer_listener, identity, inlet.clone()));
    let bus_started = bus_ends.start(inlet.clone(), &mut tasks).await;
    let api = Api {
        cluster: config.cluster.clone(),
        me,
        members: config.members.clone(),
        inlet: inlet.clone(),
        standing: standing_seen,
        applied: applied_seen,
        ledger,
        bus,
        tails,
        peer_counters,
        ending,
    };
    let mut serving = tokio::spawn(api::serve(http_listener, api));
    tracing::info!(cluster = config.cluster, coordinator = config.name, http = %config.http, peer = %config.peer, "the coordinator runs");

    let mut replica_ended = None;
    let mut outcome = match bus_started {
        Err(error) => Err(error.into()),
        Ok(()) => tokio::select! {
            () = shutdown => Ok(()),
            ended = &mut end_of_replica => {
                replica_ended = Some(());
                ended.unwrap_or(Err(RunError::Panicked))
            }
            served = &mut serving => Err(served.map_or(RunError::Panicked, |served| {
                RunError::Serve(served.err().unwrap_or_else(|| io::Error::other("it ended by itself")))
            })),
        },
    };
    tracing::info!(coordinator = config.name, "the coordinator ends");
    // First no more requests, then no more answers, then the disk.
    end.send_replace(true);
    if !serving.is_finished() && timeout(GOODBYE, &mut serving).await.is_err() {
        serving.abort();
    }
    tasks.shutdown().await;
    if replica_ended.is_none() {
        let told = spawn_blocking(move || inlet.stop());
        let ended = end_of_replica.await.unwrap_or(Err(RunError::Panicked));
        drop(told);
        outcome = outcome.and(ended);
    }
    // The store is dropped, and its lock with it, before anybody hears of the end.
    let joined = spawn_blocking(move || thread.join()).await;
    if !matches!(joined, Ok(Ok(()))) && outcome.is_ok() {
        outcome = Err(RunError::Panicked);
    }
    if let Err(error) = &outcome {
        tracing::error!(%error, "the coordinator ended by itself");
    }
    outcome
}

async fn listen(address: SocketAddr, whom: &'static str) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, whom, source })
}

/// Elections must not come at the same moment everywhere; nothing else depends on it.
fn random_seed() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let drawn = uuid::Uuid::new_v4().as_u128();
    (drawn as u64) ^ ((drawn >> 64) as u64) ^ u64::from(wall.subsec_nanos())
}
