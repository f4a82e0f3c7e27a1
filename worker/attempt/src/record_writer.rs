//! Writes an attempt's progress records, in order, from a thread of its own: a trainer waits only for the
//! commits that it depends on.
//!
//! If the agent refuses a record, the thread ends and every later write and wait fails, so no record is lost
//! silently. The queue is bounded: when it is full, `write` blocks.

use super::client::{AttemptClient, ClientError};
use muster_protocol::ids::Digest;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// At most this many records are queued.
const QUEUE_MAX: usize = 256;

#[derive(Debug)]
struct QueuedRecord {
    key: String,
    seq: u64,
    payload: Digest,
    body: String,
    /// Notified once the record is applied.
    applied: Option<Sender<()>>,
}

/// The first error, until a caller has taken it.
type FirstError = Arc<Mutex<Option<ClientError>>>;

/// Writes records through a connection of its own.
#[derive(Debug)]
pub struct RecordWriter {
    records: Option<SyncSender<QueuedRecord>>,
    thread: Option<JoinHandle<()>>,
    first_error: FirstError,
}

/// Says when a record is in the log.
#[derive(Debug)]
pub struct CommitHandle {
    applied: Receiver<()>,
    first_error: FirstError,
}

impl RecordWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn new(client: AttemptClient) -> Result<RecordWriter, ClientError> {
        let (records, waiting) = sync_channel(QUEUE_MAX);
        let first_error = FirstError::default();
        let thread = {
            let first_error = Arc::clone(&first_error);
            let thread = Builder::new()
                .name("records".to_owned())
                .spawn(move || write(client, &waiting, &first_error));
            thread.map_err(|source| ClientError::Reach {
                path: "the thread that writes records".to_owned(),
                source,
            })?
        };
        Ok(RecordWriter { records: Some(records), thread: Some(thread), first_error })
    }

    /// Queues a record behind those before it.
    ///
    /// # Errors
    /// If an earlier record could not be written.
    pub fn write(&self, key: &str, seq: u64, payload: Digest, body: String) -> Result<(), ClientError> {
        self.push(QueuedRecord { key: key.to_owned(), seq, payload, body, applied: None })
    }

    /// Like [`RecordWriter::write`]; the handle says when the record is durably in the log.
    ///
    /// # Errors
    /// If an earlier record could not be written.
    pub fn commit(
        &self,
        key: &str,
        seq: u64,
        payload: Digest,
        body: String,
    ) -> Result<CommitHandle, ClientError> {
        let (sender, applied) = channel();
        self.push(QueuedRecord { key: key.to_owned(), seq, payload, body, applied: Some(sender) })?;
        Ok(CommitHandle { applied, first_error: Arc::clone(&self.first_error) })
    }

    /// Returns once the agent has taken every record.
    ///
    /// # Errors
    /// If one could not be written.
    pub fn finish(&mut self) -> Result<(), ClientError> {
        self.records = None;
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
        take(&self.first_error).map_or(Ok(()), Err)
    }

    fn push(&self, record: QueuedRecord) -> Result<(), ClientError> {
        match self.records.as_ref().map(|records| records.send(record)) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(take_or_explain(&self.first_error)),
        }
    }
}

impl Drop for RecordWriter {
    fn drop(&mut self) {
        self.records = None;
        if let Some(thread) = self.thread.take() {
            // Its error has been returned, or nobody asked for it.
            drop(thread.join());
        }
    }
}

impl CommitHandle {
    /// Whether the record is in the log.
    ///
    /// # Errors
    /// If it, or one before it, could not be written.
    pub fn is_applied(&self) -> Result<bool, ClientError> {
        match self.applied.try_recv() {
            Ok(()) => Ok(true),
            Err(std::sync::mpsc::TryRecvError::Empty) => Ok(false),
            Err(std::sync::mpsc::TryRecvError::Disconnected) => Err(take_or_explain(&self.first_error)),
        }
    }

    /// Waits until the record is in the log.
    ///
    /// # Errors
    /// If it, or one before it, could not be written.
    pub fn wait(self) -> Result<(), ClientError> {
        self.applied.recv().map_err(|_| take_or_explain(&self.first_error))
    }
}

fn take(first_error: &FirstError) -> Option<ClientError> {
    first_error.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn take_or_explain(first_error: &FirstError) -> ClientError {
    take(first_error).unwrap_or_else(|| ClientError::Refused("an earlier record was refused".to_owned()))
}

fn write(mut client: AttemptClient, waiting: &Receiver<QueuedRecord>, first_error: &FirstError) {
    while let Ok(QueuedRecord { key, seq, payload, body, applied }) = waiting.recv() {
        if let Err(error) = client.record(key, seq, payload, body, applied.is_some()) {
            *first_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return;
        }
        if let Some(applied) = applied {
            // The handle may be gone.
            let _ = applied.send(());
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

    /// An agent that takes `takes` records and refuses the next. It returns the records' keys, in order, and
    /// whether each was waited for.
    fn agent(listener: UnixListener, takes: usize) -> JoinHandle<Vec<(String, bool)>> {
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut received = Vec::new();
            let mut head = [0; 4];
            while stream.read_exact(&mut head).is_ok() {
                let mut sealed = vec![0; u32::from_le_bytes(head) as usize];
                stream.read_exact(&mut sealed).unwrap();
                let AttemptFrame::Record(record) = codec::open(&sealed, 1 << 20).unwrap() else {
                    panic!("only records")
                };
                let frame = if received.len() < takes {
                    AgentFrame::Taken(Taken {})
                } else {
                    AgentFrame::Refused(Detail { message: format!("no {}", record.key) })
                };
                received.push((record.key, record.wait));
                let sealed = codec::seal(&frame);
                stream.write_all(&(sealed.len() as u32).to_le_bytes()).unwrap();
                stream.write_all(&sealed).unwrap();
            }
            received
        })
    }

    fn writer(takes: usize) -> (tempfile::TempDir, RecordWriter, JoinHandle<Vec<(String, bool)>>) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let agent = agent(UnixListener::bind(&path).unwrap(), takes);
        let client = AttemptClient::connect(&path).unwrap();
        (temp, RecordWriter::new(client).unwrap(), agent)
    }

    #[test]
    fn records_are_written_in_order_and_commits_are_confirmed() {
        let (_temp, mut writer, agent) = writer(10);
        writer.write("a", 1, Digest::default(), "{}".to_owned()).unwrap();
        let handle = writer.commit("b", 1, Digest::default(), "{}".to_owned()).unwrap();
        writer.write("c", 1, Digest::default(), "{}".to_owned()).unwrap();
        handle.wait().unwrap();
        writer.finish().unwrap();
        let received = agent.join().unwrap();
        assert_eq!(
            received,
            [("a", false), ("b", true), ("c", false)].map(|(key, wait)| (key.to_owned(), wait))
        );
        assert!(writer.write("d", 1, Digest::default(), String::new()).is_err(), "it is closed");
    }

    #[test]
    fn a_refused_record_fails_once_and_nothing_follows_it() {
        let (_temp, mut writer, agent) = writer(1);
        writer.write("a", 1, Digest::default(), "{}".to_owned()).unwrap();
        writer.write("b", 1, Digest::default(), "{}".to_owned()).unwrap();
        let late = writer.commit("c", 1, Digest::default(), "{}".to_owned());
        let error = late.and_then(CommitHandle::wait).unwrap_err();
        assert_eq!(error.to_string(), "the agent refused: no b");
        assert!(
            writer
                .write("d", 1, Digest::default(), String::new())
                .unwrap_err()
                .to_string()
                .contains("an earlier record")
        );
        writer.finish().unwrap();
        assert_eq!(agent.join().unwrap().len(), 2);
    }
}
