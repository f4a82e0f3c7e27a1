//! A loader: answers each connection in turn, on a thread of its own, until it is told that it is over.
//!
//! Whoever calls must know the token, and belong to the newest life of its gang that has called; all others
//! are refused with a reason, and hold up nobody. Memory: one batch for each connection that was let in. Once
//! it is over, it ends within the time that a word may take.

use super::wire::{self, ASK_BYTES_MAX, Hello, PLACES_MAX, SHORT_BYTES_MAX, Within, Word};
use super::{Error, Reader, Recipe};
use muster_llm::train::Dataset;
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

/// Connections at once at most.
const CONNECTIONS_MAX: usize = 512;
/// Recipes at once at most: each holds its table of samples.
const RECIPES_MAX: usize = 16;
/// How long a caller may take for its first word.
const GREETING: Duration = Duration::from_secs(5);
/// How long a word that has begun, or an answer, may take.
const WORD: Duration = Duration::from_secs(30);
/// Between two looks at whether it is over.
const POLL: Duration = Duration::from_millis(50);

/// What a loader has given so far.
#[derive(Debug, Default)]
pub struct Served {
    /// Batches.
    pub batches: AtomicU64,
    /// Samples in them.
    pub samples: AtomicU64,
    /// Their bytes, about.
    pub bytes: AtomicU64,
}

/// Makes the samples of a recipe, or says why not.
pub type Open<'a> = &'a (dyn Fn(&Recipe) -> Result<Arc<dyn Dataset>, String> + Sync);

/// What all connections share.
struct Desk<'a> {
    token: &'a str,
    data: &'a str,
    open: Open<'a>,
    over: &'a AtomicBool,
    served: &'a Served,
    /// The newest life of each stage's gang.
    formations: Mutex<BTreeMap<u16, u32>>,
    sources: Mutex<Vec<(Recipe, Arc<dyn Dataset>)>>,
    connections: AtomicUsize,
}

/// Serves `data` until `over` is set. `open` makes a source of samples, once for each recipe.
///
/// # Errors
/// When the listener can't be used.
pub fn serve(
    listener: &TcpListener,
    token: &str,
    data: &str,
    open: Open<'_>,
    served: &Served,
    over: &AtomicBool,
) -> Result<(), Error> {
    listener.set_nonblocking(true).map_err(Error::System)?;
    let (formations, sources) = (Mutex::default(), Mutex::default());
    let desk =
        Desk { token, data, open, over, served, formations, sources, connections: AtomicUsize::new(0) };
    thread::scope(|scope| {
        while !over.load(Ordering::Relaxed) {
            let Ok((stream, _)) = listener.accept() else {
                // Nobody calls, or the system is short of something: both may have passed soon.
                thread::sleep(POLL);
                continue;
            };
            if desk.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                desk.connections.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let desk = &desk;
            let spawned = thread::Builder::new().name("loader".to_owned()).spawn_scoped(scope, move || {
                // Whoever hangs up, or says what makes no sense, is left alone; the others go on.
                let _ = desk.converse(&stream);
                desk.connections.fetch_sub(1, Ordering::Relaxed);
            });
            if spawned.is_err() {
                desk.connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
    });
    Ok(())
}

impl Desk<'_> {
    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        let word = || Within::new(stream, WORD);
        let (reader, samples) =
            match self.admit(wire::read(&mut Within::new(stream, GREETING), SHORT_BYTES_MAX)?) {
                Ok(admitted) => admitted,
                Err(no) => return wire::write(&mut word(), &no),
            };
        wire::write(&mut word(), &Word::About(samples.info().clone()))?;
        while self.awaits(stream, &reader)? {
            let answer = match wire::read(&mut word(), ASK_BYTES_MAX)? {
                Word::Ask(places) => self.answer(&reader, samples.as_ref(), &places),
                other => Word::Refused(format!("{} where a question was expected", other.name())),
            };
            wire::write(&mut word(), &answer)?;
        }
        Ok(())
    }

    /// Waits for the first byte of a word; `false` if it is over, or if the reader's host has vanished and
    /// its gang has another life.
    fn awaits(&self, stream: &TcpStream, reader: &Reader) -> io::Result<bool> {
        stream.set_read_timeout(Some(POLL))?;
        while !self.over.load(Ordering::Relaxed) {
            match stream.peek(&mut [0]) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(_) if self.fence(reader).is_err() => return Ok(false),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn admit(&self, word: Word) -> Result<(Reader, Arc<dyn Dataset>), Word> {
        let Word::Hello(Hello { token, reader }) = word else {
            return Err(Word::Refused(format!("{} where a hello was expected", word.name())));
        };
        if token != self.token {
            return Err(Word::NotYou("the token is not this loader's".to_owned()));
        }
        if reader.data != self.data {
            return Err(Word::Refused(format!(
                "the data set {} is wanted, and here is {}",
                reader.data, self.data
            )));
        }
        self.fence(&reader).map_err(Word::Refused)?;
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, source)) = sources.iter().find(|(recipe, _)| *recipe == reader.recipe) {
            return Ok((reader, Arc::clone(source)));
        }
        if sources.len() >= RECIPES_MAX {
            return Err(Word::Refused(format!("{RECIPES_MAX} ways to read the data are open already")));
        }
        let source = (self.open)(&reader.recipe).map_err(Word::Refused)?;
        sources.push((reader.recipe.clone(), Arc::clone(&source)));
        Ok((reader, source))
    }

    /// Refuses a gang's former lives: their samples are leased to others.
    fn fence(&self, reader: &Reader) -> Result<(), String> {
        let mut formations = self.formations.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = formations.entry(reader.stage).or_insert(reader.formation);
        if *newest > reader.formation {
            return Err(format!("formation {} has ended: formation {newest} has come", reader.formation));
        }
        *newest = reader.formation;
        Ok(())
    }

    fn answer(&self, reader: &Reader, samples: &dyn Dataset, places: &[u64]) -> Word {
        if let Err(reason) = self.fence(reader) {
            return Word::Refused(reason);
        }
        let end = samples.info().samples;
        if places.is_empty() || places.len() > PLACES_MAX {
            return Word::Refused(format!("{} places: from 1 to {PLACES_MAX} make a batch", places.len()));
        }
        if let Some(place) = places.iter().find(|place| **place >= end) {
            return Word::Refused(format!("there is no sample {place}: there are {end}"));
        }
        match samples.batch(places) {
            Ok(batch) => {
                self.served.batches.fetch_add(1, Ordering::Relaxed);
                self.served.samples.fetch_add(places.len() as u64, Ordering::Relaxed);
                self.served.bytes.fetch_add(8 * batch.tokens.len() as u64, Ordering::Relaxed);
                Word::Batch(batch)
            }
            Err(error) => Word::Refused(error.to_string()),
        }
    }
}
