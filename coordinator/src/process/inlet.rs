//! The one way to the replica's thread: bounded in messages and, per lane, in bytes, so that no kind of
//! sender can crowd out another.

use muster_protocol::bus::UpEnvelope;
use muster_protocol::envelope::{Answer, Envelope};
use muster_protocol::ids::RaftId;
use muster_replica::{Core, Input, PeerMessage, Unanswered};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Messages that wait for the replica, of all lanes together.
pub const WAITING_MAX: usize = 16 * 1024;
/// What each lane may have waiting.
const LANE_BYTES_MAX: usize = 64 << 20;
/// Permits are counted in pieces of this size, so that a message without a body counts too.
const PIECE_BYTES: usize = 1024;
/// Commands that wait for their answer, at most; more are turned away.
const COMMANDS_MAX: usize = 8 * 1024;
/// Reads that wait, at most; more are turned away.
const READS_MAX: usize = 1024;
/// Looked at again when the replica has as much waiting as it may.
const FULL_RETRY: Duration = Duration::from_millis(1);

/// A look at the core, on the replica's thread; it must be short.
pub type Read = Box<dyn FnOnce(&Core) + Send>;

/// What the replica's thread is told.
pub enum Told {
    /// An input of the core that nobody waits for.
    Input(Box<Input>, Option<OwnedSemaphorePermit>),
    /// A command of a client.
    Command(Box<Envelope>, oneshot::Sender<Result<Answer, Unanswered>>),
    /// A look at the core.
    Read(Read),
    /// End, after what was told before.
    Stop,
}

/// The replica's thread has ended, or takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too much is waiting.
    #[error("too much is waiting")]
    Full,
    /// It has ended.
    #[error("the replica has ended")]
    Ended,
}

/// Tells the replica's thread.
#[derive(Clone)]
pub struct Inlet {
    sender: SyncSender<Told>,
    peers: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    commands: Arc<Semaphore>,
    command_bytes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl Inlet {
    /// Tells the thread at the other end of this channel.
    pub fn new(sender: SyncSender<Told>) -> Inlet {
        let lane = || Arc::new(Semaphore::new(LANE_BYTES_MAX / PIECE_BYTES));
        Inlet {
            sender,
            peers: lane(),
            workers: lane(),
            commands: Arc::new(Semaphore::new(COMMANDS_MAX)),
            command_bytes: lane(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
        }
    }

    /// Passes on what another coordinator said; waits while too much of that is waiting.
    pub async fn peer(&self, from: RaftId, message: PeerMessage, bytes: usize) -> Result<(), Refused> {
        self.wait_for_room(&self.peers, bytes, Input::Peer { from, message }).await
    }

    /// Passes on what a worker said; waits while too much of that is waiting.
    pub async fn up(&self, envelope: UpEnvelope, bytes: usize) -> Result<(), Refused> {
        self.wait_for_room(&self.workers, bytes, Input::Up(Box::new(envelope))).await
    }

    async fn wait_for_room(&self, lane: &Arc<Semaphore>, bytes: usize, input: Input) -> Result<(), Refused> {
        let permit = Arc::clone(lane).acquire_many_owned(pieces(bytes)).await.map_err(|_| Refused::Ended)?;
        let mut told = Told::Input(Box::new(input), Some(permit));
        loop {
            told = match self.sender.try_send(told) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(Refused::Ended),
                Err(TrySendError::Full(told)) => told,
            };
            tokio::time::sleep(FULL_RETRY).await;
        }
    }

    /// Tells the core something small that may be lost.
    pub fn note(&self, input: Input) -> Result<(), Refused> {
        self.try_send(Told::Input(Box::new(input), None))
    }

    /// Asks for a command, whose body took so many bytes, and waits for what comes of it.
    pub async fn command(
        &self,
        envelope: Envelope,
        bytes: usize,
    ) -> Result<Result<Answer, Unanswered>, Refused> {
        let _one = self.commands.try_acquire().map_err(|_| Refused::Full)?;
        let _bytes = self.command_bytes.try_acquire_many(pieces(bytes)).map_err(|_| Refused::Full)?;
        let (answered, answer) = oneshot::channel();
        self.try_send(Told::Command(Box::new(envelope), answered))?;
        // Without an answer, it is not known what came of it.
        Ok(answer.await.unwrap_or(Err(Unanswered::Unknown)))
    }

    /// Looks at the core.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let _one = self.reads.try_acquire().map_err(|_| Refused::Full)?;
        let (found, value) = oneshot::channel();
        self.try_send(Told::Read(Box::new(move |core| {
            // An error means that nobody wants to know any more.
            let _ = found.send(look(core));
        })))?;
        value.await.map_err(|_| Refused::Ended)
    }

    /// Ends the thread, after what it was told before. Waits for room: the thread takes from the other end
    /// until it has ended.
    pub fn stop(&self) {
        // An error means that it has ended.
        let _ = self.sender.send(Told::Stop);
    }

    fn try_send(&self, told: Told) -> Result<(), Refused> {
        self.sender.try_send(told).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Disconnected(_) => Refused::Ended,
        })
    }
}

fn pieces(bytes: usize) -> u32 {
    u32::try_from((bytes / PIECE_BYTES + 1).min(LANE_BYTES_MAX / PIECE_BYTES)).unwrap_or(u32::MAX)
}
