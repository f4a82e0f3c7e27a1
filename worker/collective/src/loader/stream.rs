//! A trainer's end: prefetches the batches that it will need next from the loaders.
//!
//! One thread per loader fetches the first batch that no other is fetching. If its loader fails, the batch
//! goes back to the queue, and the thread looks up the loader's address again. **Invariant**: at most `ahead`
//! batches are held or in flight, besides one that the trainer waits for.

use super::wire::{self, BATCH_BYTES_MAX, Message, StreamHello};
use super::{Error, Reader};
use muster_host::frame::DeadlineStream;
use muster_llm::train::{Dataset, DatasetInfo, Error as TrainError, TokenBatch};
use std::collections::VecDeque;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

/// How long a connect, or a request with its answer, may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Before the first retry of a loader; doubled for each further one, since each reads the log.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// The longest time between two retries.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Where a loader listens, as it has recorded in the log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LoaderAddress {
    /// Host and port.
    pub address: String,
    /// What a caller must send.
    pub token: String,
}

/// Looks up where the loader with this index listens now; the error says why that is not known.
pub type Directory = Box<dyn Fn(u32) -> Result<LoaderAddress, String> + Send + Sync>;
type Upcoming = Box<dyn Iterator<Item = Vec<u64>> + Send>;

/// Dataset that loaders make, in place of a data set of our own.
pub struct BatchStream {
    threads: FetchThreads,
    about: DatasetInfo,
    timeout: Duration,
}

/// The threads that fetch. When dropped they are told to end but not joined: one may be within a request.
struct FetchThreads(Arc<Prefetcher>);

struct Prefetcher {
    reader: Reader,
    directory: Directory,
    ahead: usize,
    queue: Mutex<BatchQueue>,
    changed: Condvar,
}

struct BatchQueue {
    pending: VecDeque<PendingBatch>,
    upcoming: Upcoming,
    /// The description of the samples, from the first loader that answered.
    about: Option<DatasetInfo>,
    last_failure: String,
    /// The loader that refused a request, and its reason, which another loader would give too.
    refused: Option<(String, String)>,
    /// The ticket that was given last.
    tickets: u64,
    stop: bool,
}

/// A batch that the trainer needs now or later.
struct PendingBatch {
    ticket: u64,
    indices: Vec<u64>,
    state: BatchState,
}

enum BatchState {
    Queued,
    InFlight,
    Ready(TokenBatch),
}

impl BatchStream {
    /// Streams from `loaders` loaders, `ahead` batches ahead of the trainer. Gives up if no loader answers
    /// within `timeout`.
    ///
    /// # Errors
    /// When none answers in time, or one refuses.
    pub fn open(
        reader: Reader,
        loaders: u32,
        directory: Directory,
        ahead: usize,
        timeout: Duration,
    ) -> Result<BatchStream, Error> {
        let queue = BatchQueue {
            pending: VecDeque::new(),
            upcoming: Box::new(std::iter::empty()),
            about: None,
            last_failure: "there is no loader".to_owned(),
            refused: None,
            tickets: 0,
            stop: false,
        };
        let prefetcher = Arc::new(Prefetcher {
            reader,
            directory,
            ahead: ahead.max(1),
            queue: Mutex::new(queue),
            changed: Condvar::new(),
        });
        let threads = FetchThreads(prefetcher);
        for loader in 0..loaders {
            let prefetcher = Arc::clone(&threads.0);
            let spawned = thread::Builder::new()
                .name(format!("stream-{loader}"))
                .spawn(move || prefetcher.fetch(loader));
            spawned.map_err(Error::Io)?;
        }
        let about = threads.0.wait(timeout, |queue| queue.about.clone())?;
        Ok(BatchStream { threads, about, timeout })
    }
}

impl Drop for FetchThreads {
    fn drop(&mut self) {
        self.0.lock().stop = true;
        self.0.changed.notify_all();
    }
}

impl Dataset for BatchStream {
    fn info(&self) -> &DatasetInfo {
        &self.about
    }

    fn batch(&self, indices: &[u64]) -> Result<TokenBatch, TrainError> {
        let ticket = self.threads.0.ticket_for(indices);
        let taken = self.threads.0.wait(self.timeout, |queue| queue.take(ticket));
        self.threads.0.changed.notify_all();
        taken.map_err(|error| TrainError::Data(error.to_string()))
    }

    fn prefetch(&self, upcoming: Upcoming) {
        let mut queue = self.threads.0.lock();
        queue.pending.clear();
        queue.upcoming = upcoming;
        queue.fill(self.threads.0.ahead);
        drop(queue);
        self.threads.0.changed.notify_all();
    }
}

impl BatchQueue {
    fn fill(&mut self, ahead: usize) {
        while self.pending.len() < ahead {
            let Some(indices) = self.upcoming.next() else { return };
            self.push(indices, false);
        }
    }

    fn push(&mut self, indices: Vec<u64>, first: bool) -> u64 {
        self.tickets += 1;
        let pending = PendingBatch { ticket: self.tickets, indices, state: BatchState::Queued };
        if first {
            self.pending.push_front(pending)
        } else {
            self.pending.push_back(pending)
        }
        self.tickets
    }

    fn of(&mut self, ticket: u64) -> Option<&mut PendingBatch> {
        self.pending.iter_mut().find(|pending| pending.ticket == ticket)
    }

    fn take(&mut self, ticket: u64) -> Option<TokenBatch> {
        let place = self.pending.iter().position(|pending| pending.ticket == ticket)?;
        if !matches!(self.pending.get(place)?.state, BatchState::Ready(_)) {
            return None;
        }
        match self.pending.remove(place)?.state {
            BatchState::Ready(batch) => Some(batch),
            BatchState::Queued | BatchState::InFlight => None,
        }
    }
}

impl Prefetcher {
    fn lock(&self) -> MutexGuard<'_, BatchQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ticket of the batch with these indices. If it is pending, the batches before it are dropped; if
    /// not, it is queued before all others.
    fn ticket_for(&self, indices: &[u64]) -> u64 {
        let mut queue = self.lock();
        queue.fill(self.ahead);
        let ticket = match queue.pending.iter().position(|pending| pending.indices == indices) {
            Some(index) => {
                let ticket = queue.pending[index].ticket;
                queue.pending.drain(..index);
                ticket
            }
            None => queue.push(indices.to_vec(), true),
        };
        drop(queue);
        self.changed.notify_all();
        ticket
    }

    fn wait<T>(
        &self,
        timeout: Duration,
        mut ready: impl FnMut(&mut BatchQueue) -> Option<T>,
    ) -> Result<T, Error> {
        let until = Instant::now() + timeout;
        let mut queue = self.lock();
        loop {
            if let Some(ready) = ready(&mut queue) {
                return Ok(ready);
            }
            if let Some((address, reason)) = queue.refused.clone() {
                return Err(Error::Refused { address, reason });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut {
                    waited_s: timeout.as_secs(),
                    reason: queue.last_failure.clone(),
                });
            }
            queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The thread of one loader.
    fn fetch(&self, loader: u32) {
        let mut retry_after = RETRY_MIN;
        while !self.lock().stop {
            let address = (self.directory)(loader);
            let ended = address.and_then(|address| {
                self.fetch_from(&address, &mut retry_after)
                    .map_err(|reason| format!("{}: {reason}", address.address))
            });
            let mut queue = self.lock();
            match ended {
                Ok(()) => return,
                Err(reason) => queue.last_failure = reason,
            }
            // A waiting trainer may have timed out meanwhile; and the loader may be back soon.
            drop(self.changed.wait_timeout_while(queue, retry_after, |queue| !queue.stop));
            retry_after = (retry_after * 2).min(RETRY_MAX);
        }
    }

    /// Fetches from a loader until that fails; `Ok`: until the stream is dropped.
    fn fetch_from(&self, address: &LoaderAddress, retry_after: &mut Duration) -> Result<(), String> {
        let stream = connect(&address.address).map_err(|e| e.to_string())?;
        let hello = StreamHello { token: address.token.clone(), reader: self.reader.clone() };
        match exchange(&stream, &Message::Hello(hello)).map_err(|e| e.to_string())? {
            Message::About(about) => self.check_about(about)?,
            Message::Refused(reason) => {
                self.refuse(address, &reason);
                return Err(reason);
            }
            Message::UnknownToken(reason) => return Err(reason),
            other => return Err(format!("{} where a description of the samples was expected", other.name())),
        }
        while let Some((ticket, indices)) = self.next() {
            match exchange(&stream, &Message::Request(indices)) {
                Ok(Message::Batch(batch)) => {
                    *retry_after = RETRY_MIN;
                    self.put(ticket, batch);
                }
                Ok(Message::Refused(reason)) => {
                    self.refuse(address, &reason);
                    return Err(reason);
                }
                Ok(other) => {
                    self.requeue(ticket);
                    return Err(format!("{} where a batch was expected", other.name()));
                }
                Err(error) => {
                    self.requeue(ticket);
                    return Err(error.to_string());
                }
            }
        }
        Ok(())
    }

    /// Checks that all loaders have the same samples.
    fn check_about(&self, about: DatasetInfo) -> Result<(), String> {
        let mut queue = self.lock();
        match &queue.about {
            Some(known) if *known != about => {
                Err(format!("it has other samples: {about:?} instead of {known:?}"))
            }
            Some(_) => Ok(()),
            None => {
                queue.about = Some(about);
                self.changed.notify_all();
                Ok(())
            }
        }
    }

    /// The next batch to fetch, once there is one: its ticket and indices.
    fn next(&self) -> Option<(u64, Vec<u64>)> {
        let mut queue = self.lock();
        loop {
            if queue.stop {
                return None;
            }
            queue.fill(self.ahead);
            if let Some(pending) =
                queue.pending.iter_mut().find(|pending| matches!(pending.state, BatchState::Queued))
            {
                pending.state = BatchState::InFlight;
                return Some((pending.ticket, pending.indices.clone()));
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put(&self, ticket: u64, batch: TokenBatch) {
        // A batch that is no longer pending is dropped.
        if let Some(pending) = self.lock().of(ticket) {
            pending.state = BatchState::Ready(batch);
        }
        self.changed.notify_all();
    }

    fn requeue(&self, ticket: u64) {
        if let Some(pending) = self.lock().of(ticket) {
            pending.state = BatchState::Queued;
        }
        self.changed.notify_all();
    }

    fn refuse(&self, address: &LoaderAddress, reason: &str) {
        self.lock().refused = Some((address.address.clone(), reason.to_owned()));
        self.changed.notify_all();
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ANSWER_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(stream: &TcpStream, message: &Message) -> io::Result<Message> {
    let mut stream = DeadlineStream::new(stream, ANSWER_TIMEOUT);
    wire::write(&mut stream, message)?;
    wire::read(&mut stream, BATCH_BYTES_MAX)
}
