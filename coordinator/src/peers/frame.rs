//! Frames on a connection between coordinators: a length of four bytes, big-endian, and a message.

use muster_protocol::codec::CodecError;
use muster_protocol::limits::PEER_FRAME_BYTES_MAX;
use muster_replica::PeerMessage;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a message of {bytes} bytes; 1 to {PEER_FRAME_BYTES_MAX} are allowed")]
    Length { bytes: usize },
    #[error("a message that cannot be read: {0}")]
    Malformed(#[from] CodecError),
    #[error("the connection ended within a message, after {bytes} of its bytes")]
    Truncated { bytes: usize },
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
}

/// The frame of a message; `None` if it is too large.
pub fn to_bytes(message: &PeerMessage) -> Option<Vec<u8>> {
    let body = message.to_bytes();
    if body.len() > PEER_FRAME_BYTES_MAX {
        return None;
    }
    let length = u32::try_from(body.len()).ok()?;
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    Some(bytes)
}

/// Reads the next message, and returns it with its size. `None` if the connection ended between two messages.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<(PeerMessage, usize)>, FrameError> {
    let mut head = [0; 4];
    let mut have = 0;
    while have < head.len() {
        match stream.read(&mut head[have..]).await? {
            0 if have == 0 => return Ok(None),
            0 => return Err(FrameError::Truncated { bytes: have }),
            more => have += more,
        }
    }
    let bytes = u32::from_be_bytes(head) as usize;
    if bytes == 0 || bytes > PEER_FRAME_BYTES_MAX {
        return Err(FrameError::Length { bytes });
    }
    // Allocate as bytes arrive, not as announced.
    let mut body = Vec::new();
    stream.take(bytes as u64).read_to_end(&mut body).await?;
    if body.len() < bytes {
        return Err(FrameError::Truncated { bytes: 4 + body.len() });
    }
    Ok(Some((PeerMessage::from_bytes(&body)?, bytes)))
}
