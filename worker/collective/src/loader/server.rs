//! The loader: serves each connection on a thread of its own until it is told to stop.
//!
//! A caller must know the token, and belong to the newest formation of its gang that has connected; any other
//! is refused with a reason, and holds up no other caller. Memory: one batch for each accepted connection.
//! Once it is told to stop, it ends within [`MESSAGE_TIMEOUT`].

use super::wire::{self, BATCH_SAMPLES_MAX, Message, REQUEST_BYTES_MAX, SHORT_BYTES_MAX, StreamHello};
use super::{Error, Reader, Recipe};
use muster_host::frame::DeadlineStream;
use muster_llm::train::Dataset;
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

/// Most connections at a time.
const CONNECTIONS_MAX: usize = 512;
/// Most recipes: each has a source of samples in memory.
const RECIPES_MAX: usize = 16;
/// How long a caller may take for its hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a message may take, once it has begun.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it checks for new connections, and whether to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How much a loader has served so far.
#[derive(Debug, Default)]
pub struct Served {
    /// Batches.
    pub batches: AtomicU64,
    /// Dataset in them.
    pub samples: AtomicU64,
    /// Their bytes, estimated from the tokens.
    pub bytes: AtomicU64,
}

/// Opens the samples of a recipe; the error says why they can't be read.
pub type OpenSamples<'a> = &'a (dyn Fn(&Recipe) -> Result<Arc<dyn Dataset>, String> + Sync);

/// What all connections share.
struct Loader<'a> {
    token: &'a str,
    data: &'a str,
    open: OpenSamples<'a>,
    stop: &'a AtomicBool,
    served: &'a Served,
    /// By stage: the newest formation of its gang that has connected.
    formations: Mutex<BTreeMap<u16, u32>>,
    sources: Mutex<Vec<(Recipe, Arc<dyn Dataset>)>>,
    connections: AtomicUsize,
}

/// Serves `data` to callers that know `token`, until `stop` is set. `open` is called once for each recipe.
///
/// # Errors
/// When the listener can't be used.
pub fn serve(
    listener: &TcpListener,
    token: &str,
    data: &str,
    open: OpenSamples<'_>,
    served: &Served,
    stop: &AtomicBool,
) -> Result<(), Error> {
    listener.set_nonblocking(true).map_err(Error::Io)?;
    let (formations, sources) = (Mutex::default(), Mutex::default());
    let loader =
        Loader { token, data, open, stop, served, formations, sources, connections: AtomicUsize::new(0) };
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            let Ok((stream, _)) = listener.accept() else {
                // No caller, or a shortage of the system that may pass.
                thread::sleep(POLL_INTERVAL);
                continue;
            };
            if loader.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                loader.connections.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let loader = &loader;
            let spawned = thread::Builder::new().name("loader".to_owned()).spawn_scoped(scope, move || {
                // A caller that hangs up or breaks the protocol ends its own connection only.
                let _ = loader.serve_connection(&stream);
                loader.connections.fetch_sub(1, Ordering::Relaxed);
            });
            if spawned.is_err() {
                loader.connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
    });
    Ok(())
}

impl Loader<'_> {
    fn serve_connection(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        let deadline = || DeadlineStream::new(stream, MESSAGE_TIMEOUT);
        let (reader, samples) =
            match self.admit(wire::read(&mut DeadlineStream::new(stream, HELLO_TIMEOUT), SHORT_BYTES_MAX)?) {
                Ok(admitted) => admitted,
                Err(no) => return wire::write(&mut deadline(), &no),
            };
        wire::write(&mut deadline(), &Message::About(samples.info().clone()))?;
        while self.wait_for_request(stream, &reader)? {
            let answer = match wire::read(&mut deadline(), REQUEST_BYTES_MAX)? {
                Message::Request(indices) => self.answer(&reader, samples.as_ref(), &indices),
                other => Message::Refused(format!("{} where a request was expected", other.name())),
            };
            wire::write(&mut deadline(), &answer)?;
        }
        Ok(())
    }

    /// Waits for the first byte of a request; `false` if the loader stops, the reader has hung up, or a newer
    /// formation of its gang has connected.
    fn wait_for_request(&self, stream: &TcpStream, reader: &Reader) -> io::Result<bool> {
        stream.set_read_timeout(Some(POLL_INTERVAL))?;
        while !self.stop.load(Ordering::Relaxed) {
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

    fn admit(&self, first: Message) -> Result<(Reader, Arc<dyn Dataset>), Message> {
        let Message::Hello(StreamHello { token, reader }) = first else {
            return Err(Message::Refused(format!("{} where a hello was expected", first.name())));
        };
        if token != self.token {
            return Err(Message::UnknownToken("the token is not this loader's".to_owned()));
        }
        if reader.data != self.data {
            return Err(Message::Refused(format!(
                "the data set {} was requested, and this loader has {}",
                reader.data, self.data
            )));
        }
        self.fence(&reader).map_err(Message::Refused)?;
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, source)) = sources.iter().find(|(recipe, _)| *recipe == reader.recipe) {
            return Ok((reader, Arc::clone(source)));
        }
        if sources.len() >= RECIPES_MAX {
            return Err(Message::Refused(format!("the data is read in {RECIPES_MAX} ways already")));
        }
        let source = (self.open)(&reader.recipe).map_err(Message::Refused)?;
        sources.push((reader.recipe.clone(), Arc::clone(&source)));
        Ok((reader, source))
    }

    /// Refuses earlier formations of a gang: their samples are leased to the newest.
    fn fence(&self, reader: &Reader) -> Result<(), String> {
        let mut formations = self.formations.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = formations.entry(reader.stage).or_insert(reader.formation);
        if *newest > reader.formation {
            return Err(format!(
                "formation {} has ended: formation {newest} has connected",
                reader.formation
            ));
        }
        *newest = reader.formation;
        Ok(())
    }

    fn answer(&self, reader: &Reader, samples: &dyn Dataset, indices: &[u64]) -> Message {
        if let Err(reason) = self.fence(reader) {
            return Message::Refused(reason);
        }
        let end = samples.info().samples;
        if indices.is_empty() || indices.len() > BATCH_SAMPLES_MAX {
            return Message::Refused(format!(
                "{} samples: a batch has 1 to {BATCH_SAMPLES_MAX}",
                indices.len()
            ));
        }
        if let Some(index) = indices.iter().find(|index| **index >= end) {
            return Message::Refused(format!("there is no sample {index}: there are {end}"));
        }
        match samples.batch(indices) {
            Ok(batch) => {
                self.served.batches.fetch_add(1, Ordering::Relaxed);
                self.served.samples.fetch_add(indices.len() as u64, Ordering::Relaxed);
                self.served.bytes.fetch_add(8 * batch.tokens.len() as u64, Ordering::Relaxed);
                Message::Batch(batch)
            }
            Err(error) => Message::Refused(error.to_string()),
        }
    }
}
