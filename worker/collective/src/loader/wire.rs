//! The messages between a stream and a loader: a header of 12 bytes, and a body.
//!
//! The header, little-endian: the body's length (`u32`), a kind (`u32`), and the CRC-32 of the body. Each
//! kind has a limit of its own for the body.

use super::Reader;
use muster_host::frame::{self, FrameError, Header, check_length};
use muster_llm::train::{DatasetInfo, TokenBatch};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

const HEADER_BYTES: usize = 12;
/// The longest request.
pub const REQUEST_BYTES_MAX: usize = BATCH_SAMPLES_MAX * 8;
/// The longest body of the handshake, and of a refusal.
pub const SHORT_BYTES_MAX: usize = 16 << 10;
/// The most samples of one batch.
pub const BATCH_SAMPLES_MAX: usize = 1 << 16;
/// The longest batch.
pub const BATCH_BYTES_MAX: usize = 256 << 20;

/// The first message of a stream, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamHello {
    /// The loader's token, from its record in the log: other callers are refused.
    pub token: String,
    /// The trainer that reads.
    pub reader: Reader,
}

/// A message between a stream and a loader.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first message of a stream.
    Hello(StreamHello),
    /// The loader's answer: what its samples are like.
    About(DatasetInfo),
    /// Requests the samples with these indices, as one batch.
    Request(Vec<u64>),
    /// The samples of a request.
    Batch(TokenBatch),
    /// The loader refuses for this reason; another loader would, too.
    Refused(String),
    /// The token is not this loader's: its address must be looked up again.
    UnknownToken(String),
}

const HELLO: u32 = 1;
const ABOUT: u32 = 2;
const REQUEST: u32 = 3;
const BATCH: u32 = 4;
const REFUSED: u32 = 5;
const UNKNOWN_TOKEN: u32 = 6;

impl Message {
    /// A noun phrase for error messages.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Hello(_) => "a hello",
            Message::About(_) => "a description of the samples",
            Message::Request(_) => "a request",
            Message::Batch(_) => "a batch",
            Message::Refused(_) => "a refusal",
            Message::UnknownToken(_) => "a refusal of the token",
        }
    }

    fn body(&self) -> io::Result<(u32, Vec<u8>)> {
        Ok(match self {
            Message::Hello(hello) => (HELLO, serde_json::to_vec(hello)?),
            Message::About(about) => (ABOUT, serde_json::to_vec(about)?),
            Message::Request(indices) => {
                (REQUEST, indices.iter().flat_map(|index| index.to_le_bytes()).collect())
            }
            Message::Batch(batch) => (BATCH, batch.to_bytes()),
            Message::Refused(reason) => (REFUSED, reason.bytes().take(SHORT_BYTES_MAX).collect()),
            Message::UnknownToken(reason) => (UNKNOWN_TOKEN, reason.bytes().take(SHORT_BYTES_MAX).collect()),
        })
    }
}

fn body_bytes_max(kind: u32) -> usize {
    match kind {
        REQUEST => REQUEST_BYTES_MAX,
        BATCH => BATCH_BYTES_MAX,
        _ => SHORT_BYTES_MAX,
    }
}

struct MessageHeader {
    length: u32,
    kind: u32,
    checksum: u32,
}

impl Header<HEADER_BYTES> for MessageHeader {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&self.length.to_le_bytes());
        out[4..8].copy_from_slice(&self.kind.to_le_bytes());
        out[8..].copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    fn decode(bytes: [u8; HEADER_BYTES], limit: usize) -> Result<MessageHeader, FrameError> {
        let [l0, l1, l2, l3, k0, k1, k2, k3, c0, c1, c2, c3] = bytes;
        let (length, kind) = (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([k0, k1, k2, k3]));
        check_length(length as usize, limit.min(body_bytes_max(kind)))?;
        Ok(MessageHeader { length, kind, checksum: u32::from_le_bytes([c0, c1, c2, c3]) })
    }

    fn body_bytes(&self) -> usize {
        self.length as usize
    }

    fn checksum(&self) -> Option<u32> {
        Some(self.checksum)
    }
}

/// Writes a message.
///
/// # Errors
/// When its body is too long, or the stream fails.
pub fn write(stream: &mut impl Write, message: &Message) -> io::Result<()> {
    let (kind, body) = message.body()?;
    check_length(body.len(), body_bytes_max(kind))?;
    let header = MessageHeader { length: body.len() as u32, kind, checksum: crc32fast::hash(&body) };
    frame::write(stream, &header, &body)
}

/// Reads a message whose body has at most `limit` bytes, so that a caller that is not accepted yet gets no
/// memory for a batch.
///
/// # Errors
/// When the stream fails, or the message is not one of the protocol.
pub fn read(stream: &mut impl Read, limit: usize) -> io::Result<Message> {
    let (header, body) = frame::read::<MessageHeader, HEADER_BYTES>(stream, limit)?;
    match header.kind {
        HELLO => Ok(Message::Hello(json(&body)?)),
        ABOUT => Ok(Message::About(json(&body)?)),
        REQUEST => {
            let (indices, rest) = body.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(invalid(format!("a request of {} bytes: an index has 8", body.len())));
            }
            Ok(Message::Request(indices.iter().map(|index| u64::from_le_bytes(*index)).collect()))
        }
        BATCH => TokenBatch::from_bytes(&body).map(Message::Batch).map_err(|e| invalid(e.to_string())),
        REFUSED => Ok(Message::Refused(String::from_utf8_lossy(&body).into_owned())),
        UNKNOWN_TOKEN => Ok(Message::UnknownToken(String::from_utf8_lossy(&body).into_owned())),
        other => Err(invalid(format!("a message of the unknown kind {other}"))),
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|e| invalid(e.to_string()))
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
