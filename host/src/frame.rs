//! Length-prefixed frames: a header of fixed size, then a body whose length the header announces.
//!
//! What a header holds is each protocol's own ([`Header`]); how frames are read and written is the same for
//! all. **Invariant**: the announced length is checked against a limit before the body is read, and memory
//! grows with the bytes that arrive, not with the bytes that are announced. A sender that trickles one byte
//! at a time is cut off by the deadline of a [`DeadlineStream`].

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
#[cfg(feature = "async-frames")]
use tokio::io::{AsyncRead, AsyncReadExt};

/// A frame that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed, or its deadline has passed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The body is longer than its receiver allows.
    #[error("a frame of {bytes} bytes, where at most {limit} may come")]
    TooLong {
        /// The body's length.
        bytes: usize,
        /// The longest body that is allowed.
        limit: usize,
    },
    /// The stream ended within a frame.
    #[error("the stream ended within a frame, after {bytes} bytes")]
    Truncated {
        /// Bytes of the frame that arrived, header included.
        bytes: usize,
    },
    /// The header's fields are not those of a frame of this protocol.
    #[error("{0}")]
    Malformed(String),
    /// The body does not match the checksum in the header.
    #[error("a frame damaged on the way: its checksum is {announced:08x}, that of its body {computed:08x}")]
    Damaged {
        /// The CRC-32 in the header.
        announced: u32,
        /// The CRC-32 of the body that arrived.
        computed: u32,
    },
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> io::Error {
        match error {
            FrameError::Io(error) => error,
            FrameError::Truncated { .. } => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            FrameError::TooLong { .. } | FrameError::Malformed(_) | FrameError::Damaged { .. } => {
                io::Error::new(io::ErrorKind::InvalidData, error)
            }
        }
    }
}

/// The `N` bytes in front of a body.
pub trait Header<const N: usize>: Sized {
    /// The bytes on the wire.
    fn encode(&self) -> [u8; N];

    /// Reads a header. A body of more than `limit` bytes is refused, see [`check_length`].
    ///
    /// # Errors
    /// [`FrameError::TooLong`], or [`FrameError::Malformed`] for fields that the protocol does not know.
    fn decode(bytes: [u8; N], limit: usize) -> Result<Self, FrameError>;

    /// The body's length in bytes.
    fn body_bytes(&self) -> usize;

    /// The CRC-32 of the body, in protocols that have one.
    fn checksum(&self) -> Option<u32> {
        None
    }

    /// Compares the body with the header's checksum.
    ///
    /// # Errors
    /// [`FrameError::Damaged`].
    fn verify(&self, body: &[u8]) -> Result<(), FrameError> {
        let Some(announced) = self.checksum() else { return Ok(()) };
        let computed = crc32fast::hash(body);
        if computed == announced { Ok(()) } else { Err(FrameError::Damaged { announced, computed }) }
    }
}

/// Checks the length of a body.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn check_length(bytes: usize, limit: usize) -> Result<(), FrameError> {
    if bytes <= limit { Ok(()) } else { Err(FrameError::TooLong { bytes, limit }) }
}

/// The `u32` in front of a body that has no checksum, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthLe(pub u32);

/// The `u32` in front of a body that has no checksum, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthBe(pub u32);

impl LengthLe {
    /// The header of `body`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if it has more than `limit` bytes.
    pub fn of(body: &[u8], limit: usize) -> Result<LengthLe, FrameError> {
        length(body, limit).map(LengthLe)
    }
}

impl LengthBe {
    /// The header of `body`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if it has more than `limit` bytes.
    pub fn of(body: &[u8], limit: usize) -> Result<LengthBe, FrameError> {
        length(body, limit).map(LengthBe)
    }
}

fn length(body: &[u8], limit: usize) -> Result<u32, FrameError> {
    check_length(body.len(), limit)?;
    let too_long = |_| FrameError::TooLong { bytes: body.len(), limit: u32::MAX as usize };
    u32::try_from(body.len()).map_err(too_long)
}

impl Header<4> for LengthLe {
    fn encode(&self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    fn decode(bytes: [u8; 4], limit: usize) -> Result<Self, FrameError> {
        let length = u32::from_le_bytes(bytes);
        check_length(length as usize, limit).map(|()| LengthLe(length))
    }

    fn body_bytes(&self) -> usize {
        self.0 as usize
    }
}

impl Header<4> for LengthBe {
    fn encode(&self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    fn decode(bytes: [u8; 4], limit: usize) -> Result<Self, FrameError> {
        let length = u32::from_be_bytes(bytes);
        check_length(length as usize, limit).map(|()| LengthBe(length))
    }

    fn body_bytes(&self) -> usize {
        self.0 as usize
    }
}

/// A whole frame in one buffer, so that it goes out in one write.
pub fn encode<const N: usize>(header: &impl Header<N>, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(N + body.len());
    bytes.extend(header.encode());
    bytes.extend(body);
    bytes
}

/// Writes a whole frame and flushes.
///
/// # Errors
/// Those of the stream.
pub fn write<const N: usize>(to: &mut impl Write, header: &impl Header<N>, body: &[u8]) -> io::Result<()> {
    to.write_all(&encode(header, body))?;
    to.flush()
}

/// Reads a whole frame whose body has at most `limit` bytes.
///
/// # Errors
/// Any [`FrameError`]; a stream that ends before the first byte is [`FrameError::Truncated`] at 0 bytes.
pub fn read<H: Header<N>, const N: usize>(
    from: &mut impl Read,
    limit: usize,
) -> Result<(H, Vec<u8>), FrameError> {
    let (mut header, mut have) = ([0; N], 0);
    while have < N {
        match from.read(&mut header[have..]) {
            Ok(0) => return Err(FrameError::Truncated { bytes: have }),
            Ok(more) => have += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let header = H::decode(header, limit)?;
    let mut body = Vec::new();
    from.take(header.body_bytes() as u64).read_to_end(&mut body)?;
    whole(header, body)
}

/// As [`read`], without blocking the thread. `None`: the stream ended between two frames.
///
/// # Errors
/// Any [`FrameError`].
#[cfg(feature = "async-frames")]
pub async fn read_async<H: Header<N>, const N: usize>(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<(H, Vec<u8>)>, FrameError> {
    let (mut header, mut have) = ([0; N], 0);
    while have < N {
        match from.read(&mut header[have..]).await? {
            0 if have == 0 => return Ok(None),
            0 => return Err(FrameError::Truncated { bytes: have }),
            more => have += more,
        }
    }
    let header = H::decode(header, limit)?;
    let mut body = Vec::new();
    from.take(header.body_bytes() as u64).read_to_end(&mut body).await?;
    whole(header, body).map(Some)
}

fn whole<H: Header<N>, const N: usize>(header: H, body: Vec<u8>) -> Result<(H, Vec<u8>), FrameError> {
    if body.len() < header.body_bytes() {
        return Err(FrameError::Truncated { bytes: N + body.len() });
    }
    header.verify(&body)?;
    Ok((header, body))
}

/// A TCP stream whose reads and writes must all end by one deadline.
///
/// It sets the stream's timeouts, and leaves them as they were last set.
#[derive(Debug)]
pub struct DeadlineStream<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl<'a> DeadlineStream<'a> {
    /// The deadline is `timeout` from now.
    pub fn new(stream: &'a TcpStream, timeout: Duration) -> DeadlineStream<'a> {
        DeadlineStream { stream, deadline: Instant::now() + timeout }
    }

    fn remaining(&self) -> io::Result<Duration> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(remaining) }
    }
}

impl Read for DeadlineStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.remaining()?))?;
        self.stream.read(buffer)
    }
}

impl Write for DeadlineStream<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.remaining()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
