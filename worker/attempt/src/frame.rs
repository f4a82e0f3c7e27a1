//! A frame: a little-endian `u32` length, and a sealed value.

use muster_protocol::codec::CodecError;
use muster_protocol::limits::BUS_MESSAGE_BYTES_MAX;
use std::io::{self, Read, Write};

/// One frame at most: what an attempt asks travels in one message on the bus.
pub const FRAME_BYTES_MAX: usize = BUS_MESSAGE_BYTES_MAX;

/// Why a frame was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket failed, or its other end is gone.
    #[error("speak on the attempt's socket: {0}")]
    Io(#[from] io::Error),
    /// The bytes are not a frame.
    #[error("read a frame: {0}")]
    Codec(#[from] CodecError),
    /// It is larger than [`FRAME_BYTES_MAX`].
    #[error("pass a frame of {bytes} bytes: at most {FRAME_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// The bytes of a frame around a sealed value.
pub fn around(sealed: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(sealed.len()).ok().filter(|_| sealed.len() <= FRAME_BYTES_MAX);
    let length = length.ok_or(FrameError::TooLarge { bytes: sealed.len() })?;
    let mut bytes = Vec::with_capacity(4 + sealed.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(sealed);
    Ok(bytes)
}

/// How long the sealed value behind this length is; memory is taken only after this check.
pub fn length(bytes: [u8; 4]) -> Result<usize, FrameError> {
    let bytes = u32::from_le_bytes(bytes) as usize;
    if bytes <= FRAME_BYTES_MAX { Ok(bytes) } else { Err(FrameError::TooLarge { bytes }) }
}

/// Writes a sealed value as a frame.
pub fn write(to: &mut impl Write, sealed: &[u8]) -> Result<(), FrameError> {
    Ok(to.write_all(&around(sealed)?)?)
}

/// Reads a frame's sealed value.
pub fn read(from: &mut impl Read) -> Result<Vec<u8>, FrameError> {
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    let mut sealed = vec![0; length(head)?];
    from.read_exact(&mut sealed)?;
    Ok(sealed)
}
