//! The one writer of labels: takes requests from the server, records their labels in the log, and only then
//! applies them to the store that all read.
//!
//! **Invariant**: a label is acknowledged only after the log has the hash of a durable batch that holds it.
//! Requests that wait together go into one batch (group commit), so that many people cost the log no more
//! than one. Waiting for people takes no CPU time.

use super::batch_chain::BatchChain;
use super::error::Error;
use super::import::{self, ImportCounts, LineError};
use super::label_store::{Label, LabelStore, PendingLabels};
use super::log_check::wait_for_record;
use super::refusal::Refusal;
use muster_attempt::Attempt;
use muster_protocol::attempt_call::KeyedRecord;
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use std::mem;
use std::sync::mpsc::Receiver;
use std::sync::{PoisonError, RwLock};
use tokio::sync::oneshot;

/// Most requests that wait; the server refuses more, and people may try again.
pub const REQUESTS_MAX: usize = 256;
/// The key of the record of the newest batch.
pub const LABELS_KEY: &str = "labels";
/// The key of the record of an early end.
pub const CLOSED_KEY: &str = "closed";

/// Where the result of a request goes.
pub type Reply = oneshot::Sender<Result<ImportCounts, WriteError>>;

/// A request of a person.
pub enum WriteRequest {
    /// Accept this label.
    Add {
        /// The label.
        label: Label,
        /// Where the result goes.
        reply: Reply,
    },
    /// Accept these labels, all or none.
    Import {
        /// The labels with the numbers of their lines.
        labels: Vec<(usize, Label)>,
        /// Where the result goes.
        reply: Reply,
    },
    /// End the stage.
    Close {
        /// The person.
        who: String,
        /// Where the result goes.
        reply: Reply,
    },
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The label is refused.
    Refused(Refusal),
    /// Lines of an import are refused.
    Lines(Vec<LineError>),
    /// Nothing was stored.
    NotStored(String),
    /// It is not known whether it was stored.
    Unknown(String),
}

/// The body of a record `labels`; its payload is the newest batch.
#[derive(Debug, Serialize, Deserialize)]
struct LabelsRecord {
    /// Labels, including replaced ones.
    labels: u64,
    /// Items that need no more labels.
    complete: u64,
    /// Items.
    items: u64,
}

/// The body of a record `closed`.
#[derive(Debug, Serialize, Deserialize)]
struct ClosedRecord {
    who: String,
}

/// Writes labels to the log.
pub struct LabelWriter<'a> {
    attempt: &'a mut Attempt,
    store: &'a RwLock<LabelStore>,
    chain: BatchChain,
    /// The number of the newest record `labels`.
    seq: u64,
}

impl<'a> LabelWriter<'a> {
    /// Applies to the store what earlier attempts recorded.
    pub fn open(
        attempt: &'a mut Attempt,
        store: &'a RwLock<LabelStore>,
        records: &[KeyedRecord],
    ) -> Result<LabelWriter<'a>, Error> {
        let find = |key: &str| records.iter().find(|record| record.key == key);
        let (mut chain, mut seq) = (BatchChain::default(), 0);
        let mut unlocked = store.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = find(LABELS_KEY) {
            let (read, labels) = BatchChain::read(&attempt.artifacts, record.payload_hash)?;
            labels.iter().for_each(|label| unlocked.apply(label));
            attempt.say(&format!(
                "goes on from {} labels; {} items are done",
                labels.len(),
                unlocked.complete()
            ));
            (chain, seq) = (read, record.seq);
        }
        if let Some(record) = find(CLOSED_KEY) {
            let closed: ClosedRecord = serde_json::from_str(&record.body)
                .map_err(|source| Error::Decode { values: format!("record `{CLOSED_KEY}`"), source })?;
            unlocked.close(closed.who);
        }
        drop(unlocked);
        Ok(LabelWriter { attempt, store, chain, seq })
    }

    /// The attempt that it works for.
    pub fn attempt(&mut self) -> &mut Attempt {
        self.attempt
    }

    /// Handles requests until every item has its labels, or the stage is ended.
    pub fn run(&mut self, requests: &Receiver<WriteRequest>) -> Result<(), Error> {
        while !self.read(LabelStore::is_over) {
            let first = requests.recv().map_err(|_| Error::ServerEnded)?;
            let mut waiting = vec![first];
            waiting.extend(requests.try_iter().take(REQUESTS_MAX - 1));
            self.handle(waiting)?;
        }
        Ok(())
    }

    /// Single labels go together into one batch; an import is a batch of its own.
    fn handle(&mut self, requests: Vec<WriteRequest>) -> Result<(), Error> {
        let (mut pending, mut done) = (PendingLabels::default(), Vec::new());
        for request in requests {
            match request {
                WriteRequest::Add { label, reply } => match self.read(|store| store.add(&mut pending, label))
                {
                    Ok(change) => done.push((reply, ImportCounts::of(change))),
                    Err(refusal) => answer(reply, Err(WriteError::Refused(refusal))),
                },
                WriteRequest::Import { labels, reply } => {
                    self.write(mem::take(&mut pending), mem::take(&mut done))?;
                    let mut whole = PendingLabels::default();
                    match self.read(|store| import::add_all(store, &mut whole, labels)) {
                        Ok(counts) => self.write(whole, vec![(reply, counts)])?,
                        Err(errors) => answer(reply, Err(WriteError::Lines(errors))),
                    }
                }
                WriteRequest::Close { who, reply } => {
                    self.write(mem::take(&mut pending), mem::take(&mut done))?;
                    self.close(who, reply)?;
                }
            }
        }
        self.write(pending, done)
    }

    /// Writes pending labels, and answers the requests that they are from.
    fn write(&mut self, pending: PendingLabels, done: Vec<(Reply, ImportCounts)>) -> Result<(), Error> {
        if pending.labels.is_empty() {
            done.into_iter().for_each(|(reply, counts)| answer(reply, Ok(counts)));
            return Ok(());
        }
        let chain = match self.chain.with(&self.attempt.artifacts, &pending.labels) {
            Ok(chain) => chain,
            Err(error) => {
                // Nothing is in the log: people may try again, once there is space.
                self.attempt.say(&format!("can't store {} labels: failed to {error}", pending.labels.len()));
                let failed =
                    WriteError::NotStored(format!("the labels could not be stored: failed to {error}"));
                done.into_iter().for_each(|(reply, _)| answer(reply, Err(failed.clone())));
                return Ok(());
            }
        };
        let ((labels, complete), items) =
            self.read(|store| (store.counts_with(&pending), store.items().len()));
        let body = LabelsRecord { labels, complete: complete as u64, items: items as u64 };
        if let Err(error) = self.log(self.seq + 1, chain.head().unwrap_or_default(), &body) {
            done.into_iter()
                .for_each(|(reply, _)| answer(reply, Err(WriteError::Unknown(format!("failed to {error}")))));
            return Err(error);
        }
        (self.seq, self.chain) = (self.seq + 1, chain);
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        pending.labels.iter().for_each(|label| store.apply(label));
        drop(store);
        done.into_iter().for_each(|(reply, counts)| answer(reply, Ok(counts)));
        Ok(())
    }

    fn log(&mut self, seq: u64, head: Digest, body: &LabelsRecord) -> Result<(), Error> {
        self.attempt.record(LABELS_KEY, seq, head, body, true)?;
        wait_for_record(self.attempt, LABELS_KEY, seq, head)
    }

    fn close(&mut self, who: String, reply: Reply) -> Result<(), Error> {
        if let Err(refusal) = self.read(|store| store.may_close(&who)) {
            answer(reply, Err(WriteError::Refused(refusal)));
            return Ok(());
        }
        let head = self.chain.head().unwrap_or_default();
        let body = ClosedRecord { who: who.clone() };
        let logged = self.attempt.record(CLOSED_KEY, 1, head, &body, true);
        if let Err(error) =
            logged.map_err(Error::from).and_then(|()| wait_for_record(self.attempt, CLOSED_KEY, 1, head))
        {
            answer(reply, Err(WriteError::Unknown(format!("failed to {error}"))));
            return Err(error);
        }
        self.attempt.say(&format!("{who:?} has ended the stage"));
        self.store.write().unwrap_or_else(PoisonError::into_inner).close(who);
        answer(reply, Ok(ImportCounts::default()));
        Ok(())
    }

    fn read<T>(&self, look: impl FnOnce(&LabelStore) -> T) -> T {
        look(&self.store.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends the result of a request; its sender may have gone.
fn answer(reply: Reply, answer: Result<ImportCounts, WriteError>) {
    let _ = reply.send(answer);
}
