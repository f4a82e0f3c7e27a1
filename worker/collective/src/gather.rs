//! Gathering bytes: every rank's on all ranks, or rank 0's on all others (a broadcast).

use super::connection::{Connection, QueuedMessage};
use super::frame::Kind;
use super::poll_loop::{Exchange, ExchangeError};
use std::sync::Arc;

/// The longest message of bytes.
pub const BYTES_MAX: usize = 1 << 30;

/// Receives one message of bytes from each of some ranks, while the queued messages are sent.
#[derive(Debug)]
pub struct GatherBytes {
    tag: u32,
    /// By connection: `None` if no message is expected, `Some(None)` until it has arrived.
    received: Vec<Option<Option<Vec<u8>>>>,
}

impl GatherBytes {
    /// `expected`: by connection, whether a message will come.
    pub fn new(tag: u32, expected: impl Iterator<Item = bool>) -> GatherBytes {
        GatherBytes { tag, received: expected.map(|expected| expected.then_some(None)).collect() }
    }

    /// The message that carries `bytes` to a peer.
    pub fn message(tag: u32, bytes: Arc<Vec<u8>>) -> QueuedMessage {
        QueuedMessage { kind: Kind::Bytes, tag, bytes }
    }

    /// The messages by connection; empty where none was expected.
    pub fn into_bytes(self) -> Vec<Vec<u8>> {
        self.received.into_iter().map(|bytes| bytes.flatten().unwrap_or_default()).collect()
    }
}

impl Exchange for GatherBytes {
    fn advance(&mut self, index: usize, connection: &mut Connection) -> Result<bool, ExchangeError> {
        let Some(received @ None) = &mut self.received[index] else { return Ok(false) };
        let before = connection.last_received();
        match connection.next_message(BYTES_MAX)? {
            None => return Ok(connection.last_received() > before),
            Some((Kind::Bytes, tag, bytes)) if tag == self.tag => *received = Some(bytes),
            Some((kind, tag, _)) => {
                let reason = format!(
                    "it sent {} of operation {tag} at the wrong time, in operation {}",
                    kind.name(),
                    self.tag
                );
                return Err(ExchangeError::Mismatch(reason));
            }
        }
        Ok(true)
    }

    fn awaits(&self, index: usize, _link: &Connection) -> bool {
        self.received[index] == Some(None)
    }

    fn sends(&self, _place: usize) -> bool {
        false
    }

    fn needs_drained(&self, _place: usize) -> bool {
        true
    }

    fn done(&self, connections: &[Connection]) -> bool {
        self.received.iter().all(|received| *received != Some(None))
            && connections.iter().all(Connection::is_drained)
    }
}
