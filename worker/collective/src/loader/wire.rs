//! The words between a stream and a loader: a head of 12 bytes, and a body.
//!
//! The head: the body's length (`u32`), a kind (`u32`), and the CRC-32 of the body, little-endian. A reader
//! takes memory as bytes arrive, whatever length is announced, and a body is at most as long as its kind may
//! be.

use super::Reader;
use muster_llm::train::{DatasetInfo, TokenBatch};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const HEAD_BYTES: usize = 12;
/// The longest question.
pub const ASK_BYTES_MAX: usize = PLACES_MAX * 8;
/// The longest body of words that are said before batches are, and of a refusal.
pub const SHORT_BYTES_MAX: usize = 16 << 10;
/// The most places that one batch may have.
pub const PLACES_MAX: usize = 1 << 16;
/// The longest batch.
pub const BATCH_BYTES_MAX: usize = 256 << 20;

/// The first word of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// What the loader has said in the log, so that nobody else is served.
    pub token: String,
    /// Who it is.
    pub reader: Reader,
}

/// Everything that is said.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// The first word of a stream.
    Hello(Hello),
    /// The loader's answer: what all samples are like.
    About(DatasetInfo),
    /// The samples at these places, please.
    Ask(Vec<u64>),
    /// Here they are.
    Batch(TokenBatch),
    /// No, and why: nor will another loader.
    Refused(String),
    /// Whoever asks is not known here: where the loader listens should be looked up again.
    NotYou(String),
}

impl Word {
    /// What it is, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Word::Hello(_) => "a hello",
            Word::About(_) => "what samples are like",
            Word::Ask(_) => "a question",
            Word::Batch(_) => "a batch",
            Word::Refused(_) => "a refusal",
            Word::NotYou(_) => "that it does not know us",
        }
    }

    fn body(&self) -> io::Result<(u32, Vec<u8>)> {
        Ok(match self {
            Word::Hello(hello) => (1, serde_json::to_vec(hello)?),
            Word::About(about) => (2, serde_json::to_vec(about)?),
            Word::Ask(places) => (3, places.iter().flat_map(|place| place.to_le_bytes()).collect()),
            Word::Batch(batch) => (4, batch.to_bytes()),
            Word::Refused(reason) => (5, reason.bytes().take(SHORT_BYTES_MAX).collect()),
            Word::NotYou(reason) => (6, reason.bytes().take(SHORT_BYTES_MAX).collect()),
        })
    }
}

fn longest(kind: u32) -> usize {
    match kind {
        3 => ASK_BYTES_MAX,
        4 => BATCH_BYTES_MAX,
        _ => SHORT_BYTES_MAX,
    }
}

fn bad(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// A connection on which all reads and writes together take until a moment at most: a peer that drips one
/// byte at a time holds up nobody.
pub struct Within<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl<'a> Within<'a> {
    /// From now on, for so long.
    pub fn new(stream: &'a TcpStream, time: Duration) -> Within<'a> {
        Within { stream, until: Instant::now() + time }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Within<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        let mut stream = self.stream;
        stream.read(buffer)
    }
}

impl Write for Within<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        let mut stream = self.stream;
        stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says a word.
///
/// # Errors
/// When it is too long, or can't be written.
pub fn write(stream: &mut impl Write, word: &Word) -> io::Result<()> {
    let (kind, body) = word.body()?;
    if body.len() > longest(kind) {
        return Err(bad(format!(
            "{} of {} bytes: at most {} are allowed",
            word.name(),
            body.len(),
            longest(kind)
        )));
    }
    let mut all = Vec::with_capacity(HEAD_BYTES + body.len());
    all.extend((body.len() as u32).to_le_bytes());
    all.extend(kind.to_le_bytes());
    all.extend(crc32fast::hash(&body).to_le_bytes());
    all.extend(body);
    stream.write_all(&all)
}

/// Hears a word whose body has at most `limit` bytes: who is not known yet gets no memory for a batch.
///
/// # Errors
/// When the other end is gone, or what it says makes no sense.
pub fn read(stream: &mut impl Read, limit: usize) -> io::Result<Word> {
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head)?;
    let [l0, l1, l2, l3, k0, k1, k2, k3, c0, c1, c2, c3] = head;
    let (length, kind) =
        (u32::from_le_bytes([l0, l1, l2, l3]) as usize, u32::from_le_bytes([k0, k1, k2, k3]));
    let limit = limit.min(longest(kind));
    if length > limit {
        return Err(bad(format!(
            "a word of kind {kind} announces {length} bytes: at most {limit} are allowed"
        )));
    }
    let mut body = Vec::new();
    if stream.take(length as u64).read_to_end(&mut body)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if crc32fast::hash(&body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(bad("a word was damaged on its way: its checksum is another".to_owned()));
    }
    match kind {
        1 => Ok(Word::Hello(json(&body)?)),
        2 => Ok(Word::About(json(&body)?)),
        3 => {
            let (places, rest) = body.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(bad(format!("places of {length} bytes: each has 8")));
            }
            Ok(Word::Ask(places.iter().map(|place| u64::from_le_bytes(*place)).collect()))
        }
        4 => TokenBatch::from_bytes(&body).map(Word::Batch).map_err(|e| bad(e.to_string())),
        5 => Ok(Word::Refused(String::from_utf8_lossy(&body).into_owned())),
        6 => Ok(Word::NotYou(String::from_utf8_lossy(&body).into_owned())),
        other => Err(bad(format!("a word of the unknown kind {other}"))),
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|e| bad(e.to_string()))
}
