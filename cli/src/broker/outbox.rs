//! The bounded queue of bytes to one client: publishers fill it, the client's writer task empties it.

use super::limits::OUT_BYTES_MAX;
use bytes::BytesMut;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    closing: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BytesMut,
    /// Taken by the writer, but not written yet.
    in_flight_bytes: usize,
    closed: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox { queue: Mutex::default(), filled: Notify::new(), closing: watch::Sender::new(false) }
    }
}

impl Outbox {
    /// Appends one message, given in parts. If it does not fit, the outbox drops its content and closes: the
    /// client would only fall further behind. The client is told why.
    pub fn push(&self, parts: &[&[u8]]) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        if queue.waiting.len() + queue.in_flight_bytes + bytes > OUT_BYTES_MAX {
            queue.waiting.clear();
            self.end(&mut queue, "Slow Consumer");
            return;
        }
        for part in parts {
            queue.waiting.extend_from_slice(part);
        }
        self.filled.notify_one();
    }

    /// Accepts no more messages; the rest is still written, then `message` as an error.
    pub fn close(&self, message: &str) {
        let mut queue = self.lock();
        if !queue.closed {
            self.end(&mut queue, message);
        }
    }

    fn end(&self, queue: &mut Queue, message: &str) {
        queue.waiting.extend_from_slice(format!("-ERR '{message}'\r\n").as_bytes());
        queue.closed = true;
        self.filled.notify_one();
        self.closing.send_replace(true);
    }

    /// Waits for bytes and takes them all; `None` once the outbox is closed and empty. Only for one writer:
    /// each call confirms that the bytes of the last one are written.
    pub async fn take(&self) -> Option<BytesMut> {
        loop {
            {
                let mut queue = self.lock();
                queue.in_flight_bytes = queue.waiting.len();
                if queue.in_flight_bytes > 0 {
                    return Some(queue.waiting.split());
                }
                if queue.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    pub async fn closed(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
