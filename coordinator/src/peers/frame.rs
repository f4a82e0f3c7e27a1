//! Messages between coordinators, each in a frame whose length is big-endian.

use muster_host::frame::{self, FrameError, LengthBe};
use muster_protocol::codec::CodecError;
use muster_protocol::limits::PEER_FRAME_BYTES_MAX;
use muster_replica::PeerMessage;
use tokio::io::AsyncRead;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the connection broke: {0}")]
    Frame(#[from] FrameError),
    #[error("a message without bytes")]
    Empty,
    #[error("a message that cannot be read: {0}")]
    Message(#[from] CodecError),
}

/// The frame of a message; `None` if it is too large.
pub fn to_bytes(message: &PeerMessage) -> Option<Vec<u8>> {
    let body = message.to_bytes();
    let header = LengthBe::of(&body, PEER_FRAME_BYTES_MAX).ok()?;
    Some(frame::encode(&header, &body))
}

/// Reads the next message, and returns it with its size. `None` if the connection ended between two messages.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<(PeerMessage, usize)>, ReadError> {
    let Some((LengthBe(_), body)) = frame::read_async(stream, PEER_FRAME_BYTES_MAX).await? else {
        return Ok(None);
    };
    if body.is_empty() {
        return Err(ReadError::Empty);
    }
    Ok(Some((PeerMessage::from_bytes(&body)?, body.len())))
}
