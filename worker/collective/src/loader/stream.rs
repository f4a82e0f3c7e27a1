//! A trainer's end: asks loaders for the batches that will be wanted next, and holds them until they are.
//!
//! One thread for each loader takes the first batch that nobody fetches yet. If its loader fails, the batch
//! goes back to the others, and it looks up anew where its loader listens. **Invariant**: at most `ahead`
//! batches are held or on their way, besides one that is waited for.

use super::wire::{self, BATCH_BYTES_MAX, Hello, Within, Word};
use super::{Error, Reader};
use muster_llm::train::{Dataset, DatasetInfo, Error as TrainError, TokenBatch};
use std::collections::VecDeque;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

/// How long a call, or an answer, may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Between two tries to reach a loader: doubled from one to the next, since each looks into the log.
const AGAIN: Duration = Duration::from_millis(200);
/// And at most.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Where a loader listens, as it has said.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// Host and port.
    pub address: String,
    /// What a caller must know.
    pub token: String,
}

/// Looks up where the `n`th loader listens now; the error says why that is not known.
pub type Directory = Box<dyn Fn(u32) -> Result<Place, String> + Send + Sync>;
type Upcoming = Box<dyn Iterator<Item = Vec<u64>> + Send>;

/// Samples that loaders make.
pub struct Stream {
    open: Open,
    about: DatasetInfo,
    patience: Duration,
}

/// Threads that fetch. They are told to end, and not waited for: one may be in the middle of a call that
/// takes its time.
struct Open(Arc<Shared>);

struct Shared {
    reader: Reader,
    directory: Directory,
    ahead: usize,
    desk: Mutex<Desk>,
    changed: Condvar,
}

struct Desk {
    wanted: VecDeque<Wanted>,
    upcoming: Upcoming,
    /// What samples are like, as the first loader says.
    about: Option<DatasetInfo>,
    /// What the last failure was.
    failure: String,
    /// Who refused what was asked, and why: another loader would say the same.
    refused: Option<(String, String)>,
    tickets: u64,
    over: bool,
}

/// A batch that is, or will be, waited for.
struct Wanted {
    ticket: u64,
    places: Vec<u64>,
    state: State,
}

enum State {
    Open,
    OnItsWay,
    Here(TokenBatch),
}

impl Stream {
    /// Streams from `loaders` loaders. `ahead` batches are fetched before they are wanted; without an answer
    /// for `patience`, it gives up.
    ///
    /// # Errors
    /// When none answers in time, or one refuses.
    pub fn open(
        reader: Reader,
        loaders: u32,
        directory: Directory,
        ahead: usize,
        patience: Duration,
    ) -> Result<Stream, Error> {
        let desk = Desk {
            wanted: VecDeque::new(),
            upcoming: Box::new(std::iter::empty()),
            about: None,
            failure: "there is no loader".to_owned(),
            refused: None,
            tickets: 0,
            over: false,
        };
        let shared = Arc::new(Shared {
            reader,
            directory,
            ahead: ahead.max(1),
            desk: Mutex::new(desk),
            changed: Condvar::new(),
        });
        let open = Open(shared);
        for loader in 0..loaders {
            let shared = Arc::clone(&open.0);
            let spawned =
                thread::Builder::new().name(format!("stream-{loader}")).spawn(move || shared.fetch(loader));
            spawned.map_err(Error::System)?;
        }
        let about = open.0.wait(patience, |desk| desk.about.clone())?;
        Ok(Stream { open, about, patience })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}

impl Dataset for Stream {
    fn info(&self) -> &DatasetInfo {
        &self.about
    }

    fn batch(&self, places: &[u64]) -> Result<TokenBatch, TrainError> {
        let ticket = self.open.0.want(places);
        let taken = self.open.0.wait(self.patience, |desk| desk.take(ticket));
        self.open.0.changed.notify_all();
        taken.map_err(|error| TrainError::Data(error.to_string()))
    }

    fn prefetch(&self, upcoming: Upcoming) {
        let mut desk = self.open.0.lock();
        desk.wanted.clear();
        desk.upcoming = upcoming;
        desk.fill(self.open.0.ahead);
        drop(desk);
        self.open.0.changed.notify_all();
    }
}

impl Desk {
    fn fill(&mut self, ahead: usize) {
        while self.wanted.len() < ahead {
            let Some(places) = self.upcoming.next() else { return };
            self.push(places, false);
        }
    }

    fn push(&mut self, places: Vec<u64>, first: bool) -> u64 {
        self.tickets += 1;
        let wanted = Wanted { ticket: self.tickets, places, state: State::Open };
        if first {
            self.wanted.push_front(wanted)
        } else {
            self.wanted.push_back(wanted)
        }
        self.tickets
    }

    fn of(&mut self, ticket: u64) -> Option<&mut Wanted> {
        self.wanted.iter_mut().find(|wanted| wanted.ticket == ticket)
    }

    fn take(&mut self, ticket: u64) -> Option<TokenBatch> {
        let place = self.wanted.iter().position(|wanted| wanted.ticket == ticket)?;
        if !matches!(self.wanted.get(place)?.state, State::Here(_)) {
            return None;
        }
        match self.wanted.remove(place)?.state {
            State::Here(batch) => Some(batch),
            State::Open | State::OnItsWay => None,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ticket of the batch with these places: one that is expected, and those before it are wanted no
    /// more; or one that goes before all.
    fn want(&self, places: &[u64]) -> u64 {
        let mut desk = self.lock();
        desk.fill(self.ahead);
        let ticket = match desk.wanted.iter().position(|wanted| wanted.places == places) {
            Some(place) => {
                let ticket = desk.wanted[place].ticket;
                desk.wanted.drain(..place);
                ticket
            }
            None => desk.push(places.to_vec(), true),
        };
        drop(desk);
        self.changed.notify_all();
        ticket
    }

    fn wait<T>(&self, patience: Duration, mut ready: impl FnMut(&mut Desk) -> Option<T>) -> Result<T, Error> {
        let until = Instant::now() + patience;
        let mut desk = self.lock();
        loop {
            if let Some(ready) = ready(&mut desk) {
                return Ok(ready);
            }
            if let Some((address, reason)) = desk.refused.clone() {
                return Err(Error::Refused { address, reason });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Silent { waited_s: patience.as_secs(), reason: desk.failure.clone() });
            }
            desk = self.changed.wait_timeout(desk, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// One loader's thread.
    fn fetch(&self, loader: u32) {
        let mut again = AGAIN;
        while !self.lock().over {
            let place = (self.directory)(loader);
            let failed = place.and_then(|place| {
                self.converse(&place, &mut again).map_err(|reason| format!("{}: {reason}", place.address))
            });
            let mut desk = self.lock();
            match failed {
                Ok(()) => return,
                Err(reason) => desk.failure = reason,
            }
            // Somebody may wait with a patience that has ended; and the loader may be back soon.
            drop(self.changed.wait_timeout_while(desk, again, |desk| !desk.over));
            again = (again * 2).min(AGAIN_MAX);
        }
    }

    /// Talks to a loader until that fails; `Ok`: until all is over.
    fn converse(&self, place: &Place, again: &mut Duration) -> Result<(), String> {
        let stream = call(&place.address).map_err(|e| e.to_string())?;
        let hello = Hello { token: place.token.clone(), reader: self.reader.clone() };
        match exchange(&stream, &Word::Hello(hello)).map_err(|e| e.to_string())? {
            Word::About(about) => self.hear(about)?,
            Word::Refused(reason) => {
                self.refuse(place, &reason);
                return Err(reason);
            }
            Word::NotYou(reason) => return Err(reason),
            other => return Err(format!("{} where it should say what samples are like", other.name())),
        }
        while let Some((ticket, places)) = self.next() {
            match exchange(&stream, &Word::Ask(places)) {
                Ok(Word::Batch(batch)) => {
                    *again = AGAIN;
                    self.brought(ticket, batch);
                }
                Ok(Word::Refused(reason)) => {
                    self.refuse(place, &reason);
                    return Err(reason);
                }
                Ok(other) => {
                    self.give_back(ticket);
                    return Err(format!("{} where a batch was expected", other.name()));
                }
                Err(error) => {
                    self.give_back(ticket);
                    return Err(error.to_string());
                }
            }
        }
        Ok(())
    }

    /// All loaders must have the same samples.
    fn hear(&self, about: DatasetInfo) -> Result<(), String> {
        let mut desk = self.lock();
        match &desk.about {
            Some(known) if *known != about => {
                Err(format!("it has other samples: {about:?} instead of {known:?}"))
            }
            Some(_) => Ok(()),
            None => {
                desk.about = Some(about);
                self.changed.notify_all();
                Ok(())
            }
        }
    }

    /// The next batch to be fetched, once there is one.
    fn next(&self) -> Option<(u64, Vec<u64>)> {
        let mut desk = self.lock();
        loop {
            if desk.over {
                return None;
            }
            desk.fill(self.ahead);
            if let Some(wanted) = desk.wanted.iter_mut().find(|wanted| matches!(wanted.state, State::Open)) {
                wanted.state = State::OnItsWay;
                return Some((wanted.ticket, wanted.places.clone()));
            }
            desk = self.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn brought(&self, ticket: u64, batch: TokenBatch) {
        // If nobody wants it any more, it is dropped.
        if let Some(wanted) = self.lock().of(ticket) {
            wanted.state = State::Here(batch);
        }
        self.changed.notify_all();
    }

    fn give_back(&self, ticket: u64) {
        if let Some(wanted) = self.lock().of(ticket) {
            wanted.state = State::Open;
        }
        self.changed.notify_all();
    }

    fn refuse(&self, place: &Place, reason: &str) {
        self.lock().refused = Some((place.address.clone(), reason.to_owned()));
        self.changed.notify_all();
    }
}

fn call(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ANSWER) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(stream: &TcpStream, word: &Word) -> io::Result<Word> {
    let mut within = Within::new(stream, ANSWER);
    wire::write(&mut within, word)?;
    wire::read(&mut within, BATCH_BYTES_MAX)
}
