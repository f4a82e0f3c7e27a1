//! An attempt's records, written in order by a thread of its own: whoever computes waits only for those that
//! it must know of.
//!
//! A record that the agent refuses ends the thread, and everybody who writes or waits later hears why:
//! nothing is lost in silence. The queue is bounded; a full one makes the writer wait, as a full agent does.

use super::{AttemptClient, ClientError};
use muster_protocol::ids::Digest;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Records that wait to be written at most.
const QUEUE_MAX: usize = 256;

/// What is to be written.
#[derive(Debug)]
struct Entry {
    key: String,
    seq: u64,
    payload: Digest,
    body: String,
    /// Told once it is applied.
    told: Option<Sender<()>>,
}

/// The first thing that went wrong, until somebody hears of it.
type Fault = Arc<Mutex<Option<ClientError>>>;

/// Writes records.
#[derive(Debug)]
pub struct Pen {
    entries: Option<SyncSender<Entry>>,
    thread: Option<JoinHandle<()>>,
    fault: Fault,
}

/// A record on its way into the log.
#[derive(Debug)]
pub struct Receipt {
    applied: Receiver<()>,
    fault: Fault,
}

impl Pen {
    /// Writes through a connection that is its own.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(client: AttemptClient) -> Result<Pen, ClientError> {
        let (entries, waiting) = sync_channel(QUEUE_MAX);
        let fault = Fault::default();
        let thread = {
            let fault = Arc::clone(&fault);
            let thread =
                Builder::new().name("records".to_owned()).spawn(move || write(client, &waiting, &fault));
            thread.map_err(|source| ClientError::Reach {
                path: "the thread that writes records".to_owned(),
                source,
            })?
        };
        Ok(Pen { entries: Some(entries), thread: Some(thread), fault })
    }

    /// Puts a record behind those before it.
    ///
    /// # Errors
    /// When an earlier one could not be written.
    pub fn write(&self, key: &str, seq: u64, payload: Digest, body: String) -> Result<(), ClientError> {
        self.push(Entry { key: key.to_owned(), seq, payload, body, told: None })
    }

    /// The same; the receipt says when it is applied, durably.
    ///
    /// # Errors
    /// When an earlier one could not be written.
    pub fn write_and_tell(
        &self,
        key: &str,
        seq: u64,
        payload: Digest,
        body: String,
    ) -> Result<Receipt, ClientError> {
        let (told, applied) = channel();
        self.push(Entry { key: key.to_owned(), seq, payload, body, told: Some(told) })?;
        Ok(Receipt { applied, fault: Arc::clone(&self.fault) })
    }

    /// Returns once the agent has taken all of them.
    ///
    /// # Errors
    /// When one could not be written.
    pub fn finish(&mut self) -> Result<(), ClientError> {
        self.entries = None;
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
        take(&self.fault).map_or(Ok(()), Err)
    }

    fn push(&self, entry: Entry) -> Result<(), ClientError> {
        match self.entries.as_ref().map(|entries| entries.send(entry)) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(heard(&self.fault)),
        }
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        self.entries = None;
        if let Some(thread) = self.thread.take() {
            // What it met was heard, or nobody asked.
            drop(thread.join());
        }
    }
}

impl Receipt {
    /// Whether the record is applied.
    ///
    /// # Errors
    /// When it, or one before it, could not be written.
    pub fn is_applied(&self) -> Result<bool, ClientError> {
        match self.applied.try_recv() {
            Ok(()) => Ok(true),
            Err(std::sync::mpsc::TryRecvError::Empty) => Ok(false),
            Err(std::sync::mpsc::TryRecvError::Disconnected) => Err(heard(&self.fault)),
        }
    }

    /// Waits until the record is applied.
    ///
    /// # Errors
    /// When it, or one before it, could not be written.
    pub fn wait(self) -> Result<(), ClientError> {
        self.applied.recv().map_err(|_| heard(&self.fault))
    }
}

fn take(fault: &Fault) -> Option<ClientError> {
    fault.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn heard(fault: &Fault) -> ClientError {
    take(fault).unwrap_or_else(|| ClientError::Refused("a record before this one was not taken".to_owned()))
}

fn write(mut client: AttemptClient, waiting: &Receiver<Entry>, fault: &Fault) {
    while let Ok(Entry { key, seq, payload, body, told }) = waiting.recv() {
        if let Err(error) = client.record(key, seq, payload, body, told.is_some()) {
            *fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return;
        }
        if let Some(told) = told {
            // Whoever asked may have gone on without it.
            let _ = told.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::attempt_call::{AgentFrame, AttemptFrame, Taken};
    use muster_protocol::codec;
    use muster_protocol::rejection::Detail;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// An agent that takes so many records, and refuses the next; it gives their keys, in order, with whether
    /// they were waited for.
    fn agent(listener: UnixListener, takes: usize) -> JoinHandle<Vec<(String, bool)>> {
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            let mut head = [0; 4];
            while stream.read_exact(&mut head).is_ok() {
                let mut sealed = vec![0; u32::from_le_bytes(head) as usize];
                stream.read_exact(&mut sealed).unwrap();
                let AttemptFrame::Record(record) = codec::open(&sealed, 1 << 20).unwrap() else {
                    panic!("only records")
                };
                let frame = if seen.len() < takes {
                    AgentFrame::Taken(Taken {})
                } else {
                    AgentFrame::Refused(Detail { message: format!("no {}", record.key) })
                };
                seen.push((record.key, record.wait));
                let sealed = codec::seal(&frame);
                stream.write_all(&(sealed.len() as u32).to_le_bytes()).unwrap();
                stream.write_all(&sealed).unwrap();
            }
            seen
        })
    }

    fn pen(takes: usize) -> (tempfile::TempDir, Pen, JoinHandle<Vec<(String, bool)>>) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let agent = agent(UnixListener::bind(&path).unwrap(), takes);
        let client = AttemptClient::connect(&path).unwrap();
        (temp, Pen::new(client).unwrap(), agent)
    }

    #[test]
    fn records_are_written_in_order_and_told_of() {
        let (_temp, mut pen, agent) = pen(10);
        pen.write("a", 1, Digest::default(), "{}".to_owned()).unwrap();
        let receipt = pen.write_and_tell("b", 1, Digest::default(), "{}".to_owned()).unwrap();
        pen.write("c", 1, Digest::default(), "{}".to_owned()).unwrap();
        receipt.wait().unwrap();
        pen.finish().unwrap();
        let seen = agent.join().unwrap();
        assert_eq!(seen, [("a", false), ("b", true), ("c", false)].map(|(key, wait)| (key.to_owned(), wait)));
        assert!(pen.write("d", 1, Digest::default(), String::new()).is_err(), "it is closed");
    }

    #[test]
    fn a_record_that_is_refused_is_heard_of_once_and_nothing_follows_it() {
        let (_temp, mut pen, agent) = pen(1);
        pen.write("a", 1, Digest::default(), "{}".to_owned()).unwrap();
        pen.write("b", 1, Digest::default(), "{}".to_owned()).unwrap();
        let late = pen.write_and_tell("c", 1, Digest::default(), "{}".to_owned());
        let error = late.and_then(Receipt::wait).unwrap_err();
        assert_eq!(error.to_string(), "be heard by the agent: no b");
        assert!(
            pen.write("d", 1, Digest::default(), String::new())
                .unwrap_err()
                .to_string()
                .contains("a record before this one")
        );
        pen.finish().unwrap();
        assert_eq!(agent.join().unwrap().len(), 2);
    }
}
