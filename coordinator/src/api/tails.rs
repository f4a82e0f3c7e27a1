//! Who reads which output: pieces that workers send find their reader here.

use muster_protocol::bus::LogChunk;
use muster_protocol::ids::RequestId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Pieces that wait for one reader. A piece that finds no room is dropped: its reader notices the gap and
/// asks again.
const PIECES_MAX: usize = 256;
/// Readers at most.
const READERS_MAX: usize = 1024;

/// All readers.
#[derive(Clone, Default)]
pub struct Tails {
    readers: Arc<Mutex<HashMap<RequestId, mpsc::Sender<LogChunk>>>>,
}

impl Tails {
    /// A reader of a new tail; `None`: there are too many.
    pub fn open(&self, id: RequestId) -> Option<Reader> {
        let mut readers = self.lock();
        if readers.len() >= READERS_MAX {
            return None;
        }
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        readers.insert(id, sender);
        Some(Reader { id, pieces, tails: self.clone() })
    }

    /// Gives a piece to its reader, if there still is one.
    pub fn give(&self, chunk: LogChunk) {
        if let Some(reader) = self.lock().get(&chunk.tail) {
            // See PIECES_MAX.
            let _ = reader.try_send(chunk);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, mpsc::Sender<LogChunk>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader, for as long as it lives.
pub struct Reader {
    /// Names the tail.
    pub id: RequestId,
    /// What comes.
    pub pieces: mpsc::Receiver<LogChunk>,
    tails: Tails,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.tails.lock().remove(&self.id);
    }
}
