//! What all handlers share: the ways into the coordinator, and the limits on what they do at once.

use super::error::ApiError;
use super::tails::TailReaders;
use crate::bus::BusStatus;
use crate::handle::{HandleError, LeaderStatus, ReplicaHandle};
use crate::store::LedgerReader;
use muster_protocol::ids::LogIndex;
use muster_replica::{MemberConfig, Replica, Role};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

/// Streams of server-sent events at once.
const STREAMS_MAX: usize = 512;
/// Blocking reads of the ledger at once; more wait.
const LEDGER_READS_MAX: usize = 4;
/// Replays at once; more wait. Each takes a core, and memory for a whole state.
const REPLAYS_MAX: usize = 2;
/// A read of the replica takes microseconds; a replica that takes this long hangs on its disk.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// A member that leads answers sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The parts of the coordinator that the API serves from.
pub struct Backend {
    /// The cluster's name.
    pub cluster: String,
    pub me: MemberConfig,
    pub members: Vec<MemberConfig>,
    pub replica: ReplicaHandle,
    pub leader_status: watch::Receiver<LeaderStatus>,
    /// The last applied index, which is also how far the ledger goes.
    pub applied: watch::Receiver<LogIndex>,
    pub ledger: LedgerReader,
    pub bus: BusStatus,
    pub tails: TailReaders,
    /// Messages to other coordinators: sent, dropped.
    pub peer_counters: (Arc<AtomicU64>, Arc<AtomicU64>),
    /// Becomes true when this coordinator shuts down.
    pub shutting_down: watch::Receiver<bool>,
}

pub struct AppState {
    pub backend: Backend,
    /// For requests to the leader.
    pub client: reqwest::Client,
    streams: Arc<Semaphore>,
    pub ledger_reads: Arc<Semaphore>,
    pub replays: Arc<Semaphore>,
}

impl AppState {
    pub fn new(backend: Backend) -> std::io::Result<AppState> {
        let client =
            reqwest::Client::builder().tcp_nodelay(true).no_proxy().connect_timeout(CONNECT_TIMEOUT).build();
        Ok(AppState {
            backend,
            client: client.map_err(std::io::Error::other)?,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            ledger_reads: Arc::new(Semaphore::new(LEDGER_READS_MAX)),
            replays: Arc::new(Semaphore::new(REPLAYS_MAX)),
        })
    }

    /// Reads the replica on its own thread.
    pub async fn read_state<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Replica) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let found = timeout(READ_TIMEOUT, self.backend.replica.read(read)).await;
        found
            .map_err(|_| ApiError::overloaded("the replica does not answer; its disk may be slow"))?
            .map_err(ApiError::from)
    }

    /// Reads the leader's replica. Fails while a new leader has not yet applied everything that was
    /// acknowledged before it.
    pub async fn read_as_leader<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Replica) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let found = self.read_state(move |replica| replica.is_serving().then(|| read(replica)));
        found.await?.ok_or_else(|| ApiError::no_leader("the leader is only just taking over; ask again"))
    }

    /// Whether this coordinator leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.backend.leader_status.borrow().role == Role::Leader
    }

    /// A permit for one stream of server-sent events.
    pub fn stream_permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        permit.map_err(|_| ApiError::overloaded("too many streams are open; ask another coordinator"))
    }

    /// Waits until this coordinator shuts down.
    pub async fn shutdown(&self) {
        let mut shutting_down = self.backend.shutting_down.clone();
        // An error means that the sender is gone, and the coordinator with it.
        let _ = shutting_down.wait_for(|shutting_down| *shutting_down).await;
    }
}

impl From<HandleError> for ApiError {
    fn from(error: HandleError) -> Self {
        match error {
            HandleError::Full => ApiError::overloaded("too much is waiting; ask again later"),
            HandleError::Closed => ApiError::no_leader("this coordinator is ending"),
        }
    }
}
