//! The coordinator as a process: it opens the store, starts the replica on a thread of its own, and connects
//! it to peers, bus and API.
//!
//! tokio owns all sockets, and the replica's thread makes all decisions; bounded queues are between them.
//! When the disk fails or the replica must not go on, the process ends and says why, rather than hang.

mod replica_thread;
mod run_error;

pub use run_error::RunError;

use crate::api::{self, Backend, TailReaders};
use crate::bus;
use crate::config::Config;
use crate::handle::{LeaderStatus, MESSAGES_MAX, ReplicaHandle};
use crate::peers;
use crate::store::{Store, StoreIdentity};
use muster_protocol::ids::{LogIndex, Term};
use muster_replica::disk::Disk;
use muster_replica::{Replica, ReplicaConfig, Role};
use replica_thread::{Env, ReplicaThread};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, thread};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

/// The time that requests in progress have to finish when a coordinator ends.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(1_500);

/// Runs a coordinator until `shutdown` completes, or until it cannot go on.
///
/// # Errors
/// If it cannot start, or ends by itself.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    config.validate()?;
    let me = config.me()?.clone();
    let (downlink, bus, bus_driver) = bus::prepare(&config.cluster, &config.name, &config.nats)?;

    // The store first: of two coordinators on one directory, the second is told about the first and not about
    // a port in use.
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
    let settings = ReplicaConfig::new(&config.cluster, me.raft_id, config.members.clone(), random_seed());
    let tick = Duration::from_millis(settings.tick_ms);
    let ledger = store.reader();

    let mut tasks = JoinSet::new();
    let (sender, messages) = sync_channel(MESSAGES_MAX);
    let handle = ReplicaHandle::new(sender);
    let identity = peers::PeerIdentity::new(&config, &me);
    let peer_sender = peers::connect(&identity, &mut tasks);
    let peer_counters = peer_sender.counters();
    let tails = TailReaders::default();
    let (leader_status, leader_status_seen) =
        watch::channel(LeaderStatus { role: Role::Follower, leader: None, term: Term(0) });
    let (applied, applied_seen) = watch::channel(LogIndex(0));
    let (shut_down, shutting_down) = watch::channel(false);
    let env = Env { peers: peer_sender, downlink, tails: tails.clone(), leader_status, applied };

    let (ended, mut end_of_replica) = oneshot::channel();
    let started = thread::Builder::new().name("replica".to_string()).spawn(move || {
        let run = || {
            let replica = Replica::new(settings, recovered)?;
            ReplicaThread { replica, disk: store, messages, env, tick }.run()
        };
        // An error means that the receiver is gone. A panic drops the sender, which the receiver notices.
        let _ = ended.send(run());
    });
    let thread = started.map_err(RunError::Thread)?;

    tasks.spawn(peers::serve(peer_listener, identity, handle.clone()));
    let bus_started = bus_driver.start(handle.clone(), &mut tasks).await;
    let backend = Backend {
        cluster: config.cluster.clone(),
        me,
        members: config.members.clone(),
        replica: handle.clone(),
        leader_status: leader_status_seen,
        applied: applied_seen,
        ledger,
        bus,
        tails,
        peer_counters,
        shutting_down,
    };
    let mut serving = tokio::spawn(api::serve(http_listener, backend));
    tracing::info!(cluster = config.cluster, coordinator = config.name, http = %config.http, peer = %config.peer, "the coordinator is running");

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
    tracing::info!(coordinator = config.name, "the coordinator is shutting down");
    // First no more requests, then no more answers, then the disk.
    shut_down.send_replace(true);
    if !serving.is_finished() && timeout(SHUTDOWN_GRACE, &mut serving).await.is_err() {
        serving.abort();
    }
    tasks.shutdown().await;
    if replica_ended.is_none() {
        let stopping = spawn_blocking(move || handle.stop());
        let ended = end_of_replica.await.unwrap_or(Err(RunError::Panicked));
        drop(stopping);
        outcome = outcome.and(ended);
    }
    // The store is dropped, and its lock with it, before this returns.
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

/// Keeps members from starting elections at the same moment; nothing else depends on it.
fn random_seed() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let drawn = uuid::Uuid::new_v4().as_u128();
    (drawn as u64) ^ ((drawn >> 64) as u64) ^ u64::from(wall.subsec_nanos())
}
