//! The handle to the replica's thread, which peers, bus and API share.
//!
//! It is bounded in messages, and per kind of sender in bytes, so that no kind can crowd out another. It
//! stands below all its users: it may import nothing of this crate.

use muster_protocol::bus::UpEnvelope;
use muster_protocol::envelope::{Answer, Envelope};
use muster_protocol::ids::{RaftId, Term};
use muster_replica::{CommandError, Input, PeerMessage, Replica, Role};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Messages of all kinds that wait for the replica.
pub const MESSAGES_MAX: usize = 16 * 1024;
/// Bytes that each kind of sender may have waiting.
const BYTES_MAX: usize = 64 << 20;
/// One permit of a byte budget. Every message takes at least one, even without a body.
const PERMIT_BYTES: usize = 1024;
/// Commands that wait for their answer; more are refused.
const COMMANDS_MAX: usize = 8 * 1024;
/// Reads that wait; more are refused.
const READS_MAX: usize = 1024;
/// The interval of retries while the replica's queue is full.
const FULL_RETRY: Duration = Duration::from_millis(1);

/// A read of the replica, on its own thread; it must be short.
pub type ReadFn = Box<dyn FnOnce(&Replica) + Send>;

pub enum ReplicaMsg {
    /// An input that needs no answer, with its share of a byte budget.
    Input(Box<Input>, Option<OwnedSemaphorePermit>),
    Command(Box<Envelope>, oneshot::Sender<Result<Answer, CommandError>>),
    Read(ReadFn),
    /// Stop after the messages before this one.
    Stop,
}

/// Who leads, as far as this coordinator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderStatus {
    /// This coordinator's own role.
    pub role: Role,
    pub leader: Option<RaftId>,
    pub term: Term,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    #[error("too much is waiting")]
    Full,
    #[error("the replica has ended")]
    Closed,
}

#[derive(Clone)]
pub struct ReplicaHandle {
    sender: SyncSender<ReplicaMsg>,
    peer_bytes: Arc<Semaphore>,
    worker_bytes: Arc<Semaphore>,
    commands: Arc<Semaphore>,
    command_bytes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl ReplicaHandle {
    /// `sender`: into a channel of [`MESSAGES_MAX`] to the replica's thread.
    pub fn new(sender: SyncSender<ReplicaMsg>) -> ReplicaHandle {
        let budget = || Arc::new(Semaphore::new(BYTES_MAX / PERMIT_BYTES));
        ReplicaHandle {
            sender,
            peer_bytes: budget(),
            worker_bytes: budget(),
            commands: Arc::new(Semaphore::new(COMMANDS_MAX)),
            command_bytes: budget(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
        }
    }

    /// Passes on a message of `bytes` from another coordinator; waits while too many bytes are waiting.
    pub async fn peer(&self, from: RaftId, message: PeerMessage, bytes: usize) -> Result<(), HandleError> {
        self.send_within(&self.peer_bytes, bytes, Input::Peer { from, message }).await
    }

    /// Passes on a message of `bytes` from a worker; waits while too many bytes are waiting.
    pub async fn up(&self, envelope: UpEnvelope, bytes: usize) -> Result<(), HandleError> {
        self.send_within(&self.worker_bytes, bytes, Input::Up(Box::new(envelope))).await
    }

    async fn send_within(
        &self,
        budget: &Arc<Semaphore>,
        bytes: usize,
        input: Input,
    ) -> Result<(), HandleError> {
        let permit =
            Arc::clone(budget).acquire_many_owned(permits(bytes)).await.map_err(|_| HandleError::Closed)?;
        let mut message = ReplicaMsg::Input(Box::new(input), Some(permit));
        loop {
            message = match self.sender.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(HandleError::Closed),
                Err(TrySendError::Full(message)) => message,
            };
            tokio::time::sleep(FULL_RETRY).await;
        }
    }

    /// Passes on a small input that may be lost.
    pub fn notify(&self, input: Input) -> Result<(), HandleError> {
        self.try_send(ReplicaMsg::Input(Box::new(input), None))
    }

    /// Proposes a command whose body took `bytes`, and waits for its answer.
    pub async fn command(
        &self,
        envelope: Envelope,
        bytes: usize,
    ) -> Result<Result<Answer, CommandError>, HandleError> {
        let _one = self.commands.try_acquire().map_err(|_| HandleError::Full)?;
        let _bytes = self.command_bytes.try_acquire_many(permits(bytes)).map_err(|_| HandleError::Full)?;
        let (answered, answer) = oneshot::channel();
        self.try_send(ReplicaMsg::Command(Box::new(envelope), answered))?;
        // The thread ended without an answer, so the outcome is unknown.
        Ok(answer.await.unwrap_or(Err(CommandError::OutcomeUnknown)))
    }

    /// Reads the replica.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Replica) -> T + Send + 'static,
    ) -> Result<T, HandleError> {
        let _one = self.reads.try_acquire().map_err(|_| HandleError::Full)?;
        let (found, value) = oneshot::channel();
        self.try_send(ReplicaMsg::Read(Box::new(move |replica| {
            // An error means that the reader is gone.
            let _ = found.send(read(replica));
        })))?;
        value.await.map_err(|_| HandleError::Closed)
    }

    /// Ends the thread after the messages that were sent before. Blocks while the queue is full, which the
    /// thread empties until it has ended.
    pub fn stop(&self) {
        // An error means that it has ended.
        let _ = self.sender.send(ReplicaMsg::Stop);
    }

    fn try_send(&self, message: ReplicaMsg) -> Result<(), HandleError> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => HandleError::Full,
            TrySendError::Disconnected(_) => HandleError::Closed,
        })
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from((bytes / PERMIT_BYTES + 1).min(BYTES_MAX / PERMIT_BYTES)).unwrap_or(u32::MAX)
}
