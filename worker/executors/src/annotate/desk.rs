//! The one owner of the labels: takes them off the HTTP threads, puts them into the log, and only then onto
//! the board that all see.
//!
//! **Invariant**: nobody is told that a label was taken before the log has the hash of a durable batch that
//! holds it. What waits together goes into one batch, so that many people cost the log no more than one.
//! Waiting for people takes no time of a CPU.

use super::board::{Board, Draft, Label, Refusal};
use super::chain::Chain;
use super::import::{self, Complaint, Tally};
use crate::error::Error;
use muster_attempt::Attempt;
use muster_protocol::attempt_call::KeyedRecord;
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use std::sync::mpsc::Receiver;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;
use std::{mem, thread};
use tokio::sync::oneshot;

/// Errands that wait at most; more are refused, and may come again.
pub const ERRANDS_MAX: usize = 256;
/// A record that is not seen in the log is looked for so often, and so long apart: a coordinator may be
/// behind for a moment.
const LOOKS_MAX: usize = 40;
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// The key of the newest batch.
pub const LABELS_KEY: &str = "labels";
/// The key of an early end.
pub const CLOSED_KEY: &str = "closed";

/// Whom to tell what an errand came to.
pub type Reply = oneshot::Sender<Result<Tally, Problem>>;

/// What somebody wants done.
pub enum Errand {
    /// Take this label.
    Take {
        /// The label.
        label: Label,
        /// Whom to tell.
        reply: Reply,
    },
    /// Take these labels, all or none.
    Import {
        /// The labels, with the lines that they stand on.
        labels: Vec<(usize, Label)>,
        /// Whom to tell.
        reply: Reply,
    },
    /// End it.
    Close {
        /// Who says so.
        who: String,
        /// Whom to tell.
        reply: Reply,
    },
}

/// Why an errand was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A label may not be taken.
    Refused(Refusal),
    /// Lines of an import may not be taken.
    Lines(Vec<Complaint>),
    /// It could not be kept, and nothing was.
    Unkept(String),
    /// It is not known whether it was kept.
    Unknown(String),
}

/// The body of a record `labels`; its payload is the newest batch.
#[derive(Debug, Serialize, Deserialize)]
struct Counts {
    /// Labels, with those that were replaced.
    labels: u64,
    /// Items with nothing more to be done.
    complete: u64,
    /// Items.
    items: u64,
}

/// The body of a record `closed`.
#[derive(Debug, Serialize, Deserialize)]
struct Closed {
    who: String,
}

/// The owner.
pub struct Desk<'a> {
    attempt: &'a mut Attempt,
    board: &'a RwLock<Board>,
    chain: Chain,
    /// The number of the last record `labels`.
    seq: u64,
}

impl<'a> Desk<'a> {
    /// Puts onto the board what earlier attempts recorded.
    pub fn open(
        attempt: &'a mut Attempt,
        board: &'a RwLock<Board>,
        records: &[KeyedRecord],
    ) -> Result<Desk<'a>, Error> {
        let find = |key: &str| records.iter().find(|record| record.key == key);
        let (mut chain, mut seq) = (Chain::default(), 0);
        let mut unlocked = board.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = find(LABELS_KEY) {
            let (read, labels) = Chain::read(&attempt.artifacts, record.payload_hash)?;
            labels.iter().for_each(|label| unlocked.apply(label));
            attempt.say(&format!(
                "goes on from {} labels; {} items are done",
                labels.len(),
                unlocked.complete()
            ));
            (chain, seq) = (read, record.seq);
        }
        if let Some(record) = find(CLOSED_KEY) {
            let closed: Closed = serde_json::from_str(&record.body).map_err(|error| {
                Error::Unfit(format!("read the record `{CLOSED_KEY}` of an earlier attempt: {error}"))
            })?;
            unlocked.close(closed.who);
        }
        drop(unlocked);
        Ok(Desk { attempt, board, chain, seq })
    }

    /// The attempt that it works for.
    pub fn attempt(&mut self) -> &mut Attempt {
        self.attempt
    }

    /// Does errands until every item has its labels, or somebody ends it.
    pub fn work(&mut self, errands: &Receiver<Errand>) -> Result<(), Error> {
        while !self.read(Board::is_over) {
            let first = errands
                .recv()
                .map_err(|_| Error::Unfit("serve the form: its server has ended".to_owned()))?;
            let mut waiting = vec![first];
            waiting.extend(errands.try_iter().take(ERRANDS_MAX - 1));
            self.all(waiting)?;
        }
        Ok(())
    }

    /// Single labels go together into one batch. An import is judged as a whole, and an end on its own.
    fn all(&mut self, errands: Vec<Errand>) -> Result<(), Error> {
        let (mut draft, mut done) = (Draft::default(), Vec::new());
        for errand in errands {
            match errand {
                Errand::Take { label, reply } => match self.read(|board| board.draft(&mut draft, label)) {
                    Ok(taken) => done.push((reply, Tally::of(taken))),
                    Err(refusal) => answer(reply, Err(Problem::Refused(refusal))),
                },
                Errand::Import { labels, reply } => {
                    self.take(mem::take(&mut draft), mem::take(&mut done))?;
                    let mut whole = Draft::default();
                    match self.read(|board| import::draft(board, &mut whole, labels)) {
                        Ok(tally) => self.take(whole, vec![(reply, tally)])?,
                        Err(complaints) => answer(reply, Err(Problem::Lines(complaints))),
                    }
                }
                Errand::Close { who, reply } => {
                    self.take(mem::take(&mut draft), mem::take(&mut done))?;
                    self.close(who, reply)?;
                }
            }
        }
        self.take(draft, done)
    }

    /// Keeps a draft, and tells those whose labels are in it.
    fn take(&mut self, draft: Draft, done: Vec<(Reply, Tally)>) -> Result<(), Error> {
        if draft.labels.is_empty() {
            done.into_iter().for_each(|(reply, tally)| answer(reply, Ok(tally)));
            return Ok(());
        }
        let chain = match self.chain.with(&self.attempt.artifacts, &draft.labels) {
            Ok(chain) => chain,
            Err(error) => {
                // Nothing is in the log: people may try again once there is room.
                self.attempt.say(&format!("cannot keep {} labels: failed to {error}", draft.labels.len()));
                let problem = Problem::Unkept(format!("the labels could not be kept: failed to {error}"));
                done.into_iter().for_each(|(reply, _)| answer(reply, Err(problem.clone())));
                return Ok(());
            }
        };
        let ((labels, complete), items) = self.read(|board| (board.with(&draft), board.items().len()));
        let body = Counts { labels, complete: complete as u64, items: items as u64 };
        if let Err(error) = self.log(self.seq + 1, chain.head().unwrap_or_default(), &body) {
            done.into_iter()
                .for_each(|(reply, _)| answer(reply, Err(Problem::Unknown(format!("failed to {error}")))));
            return Err(error);
        }
        (self.seq, self.chain) = (self.seq + 1, chain);
        let mut board = self.board.write().unwrap_or_else(PoisonError::into_inner);
        draft.labels.iter().for_each(|label| board.apply(label));
        drop(board);
        done.into_iter().for_each(|(reply, tally)| answer(reply, Ok(tally)));
        Ok(())
    }

    fn log(&mut self, seq: u64, head: Digest, body: &Counts) -> Result<(), Error> {
        self.attempt.record(LABELS_KEY, seq, head, body, true)?;
        confirm(self.attempt, LABELS_KEY, seq, head)
    }

    fn close(&mut self, who: String, reply: Reply) -> Result<(), Error> {
        if let Err(refusal) = self.read(|board| board.may_close(&who)) {
            answer(reply, Err(Problem::Refused(refusal)));
            return Ok(());
        }
        let head = self.chain.head().unwrap_or_default();
        let body = Closed { who: who.clone() };
        let logged = self.attempt.record(CLOSED_KEY, 1, head, &body, true);
        if let Err(error) =
            logged.map_err(Error::from).and_then(|()| confirm(self.attempt, CLOSED_KEY, 1, head))
        {
            answer(reply, Err(Problem::Unknown(format!("failed to {error}"))));
            return Err(error);
        }
        self.attempt.say(&format!("{who:?} has ended it"));
        self.board.write().unwrap_or_else(PoisonError::into_inner).close(who);
        answer(reply, Ok(Tally::default()));
        Ok(())
    }

    fn read<T>(&self, look: impl FnOnce(&Board) -> T) -> T {
        look(&self.board.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whoever asked may have gone; what was kept is kept all the same.
fn answer(reply: Reply, answer: Result<Tally, Problem>) {
    let _ = reply.send(answer);
}

/// Waits until the log is seen to hold a record. An attempt that was given up is answered as any other, but
/// its records don't count: what it wrote would be lost.
///
/// # Errors
/// When the log holds another one, or does not come to hold this one.
pub fn confirm(attempt: &mut Attempt, key: &str, seq: u64, payload: Digest) -> Result<(), Error> {
    for _ in 0..LOOKS_MAX {
        let found = attempt.progress(attempt.task(), key)?.into_iter().find(|record| record.key == key);
        match found {
            Some(record) if record.seq == seq && record.payload_hash == payload => return Ok(()),
            Some(record) if record.seq >= seq => {
                return Err(Error::Unfit(format!(
                    "record `{key}` {seq}: the log has {} of another attempt instead",
                    record.seq
                )));
            }
            // A leader that was deposed may not know of it yet.
            Some(_) | None => thread::sleep(LOOK_PAUSE),
        }
    }
    Err(Error::Unfit(format!(
        "record `{key}` {seq}: it did not come into the log; another attempt may have taken over"
    )))
}
