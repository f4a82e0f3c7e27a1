//! The readers of attempts' outputs, by tail: chunks from workers find their reader here.

use muster_protocol::bus::LogChunk;
use muster_protocol::ids::RequestId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Chunks queued for one reader. A chunk that finds no room is dropped: its reader notices the gap and asks
/// again.
const CHUNKS_MAX: usize = 256;
const READERS_MAX: usize = 1024;

#[derive(Clone, Default)]
pub struct TailReaders {
    readers: Arc<Mutex<HashMap<RequestId, mpsc::Sender<LogChunk>>>>,
}

impl TailReaders {
    /// A reader for a new tail; `None` if there are too many.
    pub fn open(&self, id: RequestId) -> Option<TailReader> {
        let mut readers = self.lock();
        if readers.len() >= READERS_MAX {
            return None;
        }
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        readers.insert(id, sender);
        Some(TailReader { id, chunks, readers: self.clone() })
    }

    /// Passes a chunk to its reader, if there still is one.
    pub fn deliver(&self, chunk: LogChunk) {
        if let Some(reader) = self.lock().get(&chunk.tail) {
            // See CHUNKS_MAX.
            let _ = reader.try_send(chunk);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, mpsc::Sender<LogChunk>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader; dropping it removes it.
pub struct TailReader {
    pub id: RequestId,
    pub chunks: mpsc::Receiver<LogChunk>,
    readers: TailReaders,
}

impl Drop for TailReader {
    fn drop(&mut self) {
        self.readers.lock().remove(&self.id);
    }
}
