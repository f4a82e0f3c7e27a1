//! Encoding and decoding, with a limit on every decode. This is the only place that calls bincode.
//!
//! Integers are varints, lengths are checked before memory is taken, and trailing bytes are an error. A
//! compatible successor of bincode can replace it here without a migration, because the golden files in
//! `protocol/golden` pin the bytes.

use crate::limits::FORMAT_VERSION;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bincode::{Decode, Encode, config};
use core::fmt;

/// Bytes that do not decode, or a value over its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The bytes do not encode a value of the type.
    Malformed(String),
    /// The value would be larger than the limit.
    TooLarge {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// The input is longer than the value.
    Trailing {
        /// The number of bytes left over.
        bytes: usize,
    },
    /// The version byte is not one that this build reads.
    Version {
        /// The version found.
        found: u8,
    },
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Malformed(why) => write!(f, "malformed bytes: {why}"),
            CodecError::TooLarge { limit_bytes } => write!(f, "larger than the limit of {limit_bytes} bytes"),
            CodecError::Trailing { bytes } => write!(f, "{bytes} bytes left over after the value"),
            CodecError::Version { found } => {
                write!(f, "format version {found}, but this build reads version {FORMAT_VERSION}")
            }
        }
    }
}

impl core::error::Error for CodecError {}

/// The largest value that any decode accepts; callers set tighter limits.
const LIMIT_BYTES_MAX: usize = 1 << 30;
/// Memory that a decode may allocate per byte of input, so that a hostile length in a small message allocates
/// little. A list element takes at least one byte on the wire, and rarely a kilobyte in memory.
const MEMORY_PER_BYTE: usize = 1 << 10;

fn config<const LIMIT_BYTES: usize>()
-> config::Configuration<config::LittleEndian, config::Varint, config::Limit<LIMIT_BYTES>> {
    config::standard().with_limit::<LIMIT_BYTES>()
}

/// The bytes of `value`.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    bincode::encode_to_vec(value, config::<LIMIT_BYTES_MAX>())
        .expect("encoding to memory fails only over the 1 GiB limit")
}

/// Appends the bytes of `value` to `out`.
pub fn encode_into<T: Encode>(value: &T, out: &mut Vec<u8>) {
    out.extend_from_slice(&encode(value));
}

/// Decodes a value from all of `bytes`, which may be at most `limit_bytes` long.
pub fn decode<T: Decode<()>>(bytes: &[u8], limit_bytes: usize) -> Result<T, CodecError> {
    let (value, used) = decode_front(bytes, limit_bytes)?;
    match bytes.len() - used {
        0 => Ok(value),
        bytes => Err(CodecError::Trailing { bytes }),
    }
}

/// Decodes a value from the start of `bytes`, and returns it with its length.
fn decode_front<T: Decode<()>>(bytes: &[u8], limit_bytes: usize) -> Result<(T, usize), CodecError> {
    if bytes.len() > limit_bytes {
        return Err(CodecError::TooLarge { limit_bytes });
    }
    // bincode takes its limit as a constant: the smallest step that allows for the bytes at hand.
    let decoded = match bytes.len().saturating_mul(MEMORY_PER_BYTE) {
        ..=0x10_0000 => bincode::decode_from_slice(bytes, config::<0x10_0000>()),
        0x10_0001..=0x100_0000 => bincode::decode_from_slice(bytes, config::<0x100_0000>()),
        0x100_0001..=0x1000_0000 => bincode::decode_from_slice(bytes, config::<0x1000_0000>()),
        _ => bincode::decode_from_slice(bytes, config::<LIMIT_BYTES_MAX>()),
    };
    decoded.map_err(|e| CodecError::Malformed(e.to_string()))
}

/// The bytes of `value` after a version byte: the form of all that leaves a process or reaches a disk.
pub fn seal<T: Encode>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.push(FORMAT_VERSION);
    encode_into(value, &mut out);
    out
}

/// The inverse of [`seal`].
pub fn open<T: Decode<()>>(bytes: &[u8], limit_bytes: usize) -> Result<T, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Malformed("no bytes".to_string())),
        Some((&FORMAT_VERSION, body)) => decode(body, limit_bytes),
        Some((&found, _)) => Err(CodecError::Version { found }),
    }
}

/// Decodes the first fields of a sealed value, without reading the rest of it.
pub fn open_front<T: Decode<()>>(bytes: &[u8], limit_bytes: usize) -> Result<T, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Malformed("no bytes".to_string())),
        Some((&FORMAT_VERSION, body)) => decode_front(body, limit_bytes).map(|(value, _)| value),
        Some((&found, _)) => Err(CodecError::Version { found }),
    }
}
