//! Frames on an attempt's socket: a little-endian `u32` length, then a sealed value.

use muster_protocol::codec::CodecError;
use muster_protocol::limits::BUS_MESSAGE_BYTES_MAX;
use std::io::{self, Read, Write};

/// A question of an attempt must fit into one message on the bus.
pub const FRAME_BYTES_MAX: usize = BUS_MESSAGE_BYTES_MAX;

/// Why a frame was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket failed, or its other end is closed.
    #[error("the attempt's socket failed: {0}")]
    Io(#[from] io::Error),
    /// The bytes are not a frame.
    #[error("cannot read a frame: {0}")]
    Codec(#[from] CodecError),
    /// A frame is larger than [`FRAME_BYTES_MAX`].
    #[error("a frame has at most {FRAME_BYTES_MAX} bytes, not {bytes}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// The frame of a sealed value.
///
/// # Errors
/// If the value is too large.
pub fn encode(sealed: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(sealed.len()).ok().filter(|_| sealed.len() <= FRAME_BYTES_MAX);
    let length = length.ok_or(FrameError::TooLarge { bytes: sealed.len() })?;
    let mut bytes = Vec::with_capacity(4 + sealed.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(sealed);
    Ok(bytes)
}

/// Reads the length of the sealed value that follows. Check it before allocating memory.
///
/// # Errors
/// If the value would be too large.
pub fn length(bytes: [u8; 4]) -> Result<usize, FrameError> {
    let bytes = u32::from_le_bytes(bytes) as usize;
    if bytes <= FRAME_BYTES_MAX { Ok(bytes) } else { Err(FrameError::TooLarge { bytes }) }
}

/// Writes a sealed value as a frame.
///
/// # Errors
/// If the value is too large, or the socket fails.
pub fn write(to: &mut impl Write, sealed: &[u8]) -> Result<(), FrameError> {
    Ok(to.write_all(&encode(sealed)?)?)
}

/// Reads a frame's sealed value.
///
/// # Errors
/// If the frame is too large, or the socket fails.
pub fn read(from: &mut impl Read) -> Result<Vec<u8>, FrameError> {
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    let mut sealed = vec![0; length(head)?];
    from.read_exact(&mut sealed)?;
    Ok(sealed)
}
