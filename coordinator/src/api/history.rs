//! Events from the ledger, read block by block, with the commands that caused them.

use crate::store::LedgerReader;
use muster_protocol::codec::{self, CodecError};
use muster_protocol::envelope::{Answer, Batch, Reply};
use muster_protocol::event::{Event, EventRecord};
use muster_protocol::ids::JobId;
use muster_protocol::view::EventView;
use muster_replica::disk::{Block, DiskError};

/// Bytes of blocks per read.
const READ_BYTES: usize = 1 << 20;
/// A page ends with the block that exceeds this many bytes.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes of the events of one block.
const EVENTS_BYTES_MAX: usize = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A block is intact, but this build cannot read it.
    #[error("block {index} of the ledger cannot be read: {source}")]
    Block { index: u64, source: CodecError },
    /// The ledger has a gap, which is being filled from other coordinators.
    #[error(
        "this coordinator's ledger is incomplete: [{from}, {to}) is missing until it is copied from another coordinator; ask another one"
    )]
    Missing {
        from: u64,
        /// Exclusive.
        to: u64,
    },
}

#[derive(Debug, Default)]
pub struct Page {
    /// Of whole entries only.
    pub events: Vec<EventView>,
    /// The index to continue from.
    pub next: u64,
    /// The ledger holds nothing more.
    pub at_end: bool,
}

/// Events from index `from` on, of one job or of all: `limit` or slightly more.
pub fn read(
    ledger: &LedgerReader,
    from: u64,
    job: Option<JobId>,
    limit: usize,
) -> Result<Page, HistoryError> {
    let mut page = Page { next: from.max(1), ..Page::default() };
    let mut bytes = 0;
    while page.events.len() < limit && bytes < PAGE_BYTES_MAX {
        let blocks = ledger.read_blocks(page.next, READ_BYTES)?;
        if blocks.is_empty() {
            let missing =
                ledger.span().missing.into_iter().find(|(from, to)| (*from..*to).contains(&page.next));
            return match missing {
                // Return what was found first.
                Some((from, to)) if page.events.is_empty() => Err(HistoryError::Missing { from, to }),
                Some(_) => Ok(page),
                None => Ok(Page { at_end: true, ..page }),
            };
        }
        for block in blocks {
            if page.events.len() >= limit || bytes >= PAGE_BYTES_MAX {
                break;
            }
            let before = page.events.len();
            append_events(&block, job, &mut page.events)?;
            if page.events.len() > before {
                bytes += block.bytes();
            }
            page.next = block.index.0 + 1;
        }
    }
    Ok(page)
}

fn append_events(block: &Block, job: Option<JobId>, events: &mut Vec<EventView>) -> Result<(), HistoryError> {
    if block.events.is_empty() {
        return Ok(());
    }
    let wrong = |source| HistoryError::Block { index: block.index.0, source };
    let records: Vec<EventRecord> = codec::decode(&block.events, EVENTS_BYTES_MAX).map_err(wrong)?;
    if records.is_empty() {
        return Ok(());
    }
    let batch = Batch::from_bytes(&block.entry).map_err(wrong)?;
    for (record, ordinal) in records.into_iter().zip(0..) {
        if job.is_some() && job_of(&record.event) != job {
            continue;
        }
        let envelope = batch.commands.get(record.command as usize);
        events.push(EventView {
            index: block.index,
            ordinal,
            log_ms: batch.log_ms,
            wall_ms: batch.wall_ms,
            actor: envelope.map(|envelope| envelope.actor.clone()).unwrap_or_default(),
            cause: envelope.map(|envelope| envelope.command.name().to_string()).unwrap_or_default(),
            event: record.event,
        });
    }
    Ok(())
}

/// The job that an event is about.
fn job_of(event: &Event) -> Option<JobId> {
    match event {
        Event::JobSubmitted(e) => Some(e.job),
        Event::JobCancelled(e) => Some(e.job),
        Event::JobEnded(e) => Some(e.job),
        Event::JobRetried(e) => Some(e.job),
        Event::StageReadied(e) | Event::StageSealed(e) | Event::StageSucceeded(e) => Some(e.job),
        Event::TasksAdded(e) => Some(e.parent.task.job),
        Event::TaskAssigned(e) => Some(e.attempt.task.job),
        Event::GangFormed(e) => Some(e.job),
        Event::AttemptStarted(e) => Some(e.attempt.task.job),
        Event::AttemptStopped(e) => Some(e.attempt.task.job),
        Event::AttemptEnded(e) => Some(e.attempt.task.job),
        Event::TaskRequeued(e) => Some(e.task.job),
        Event::TaskReadied(e) => Some(e.task.job),
        Event::TaskEnded(e) => Some(e.task.job),
        Event::ProgressRecorded(e) => Some(e.attempt.task.job),
        Event::RequestAnswered(e) => match &e.answer {
            Answer::Accepted(accepted) => match accepted.reply {
                Reply::Submitted(submitted) => Some(submitted.job),
                Reply::Done(_) | Reply::TasksAdded(_) | Reply::Registered(_) => None,
            },
            Answer::Rejected(_) => None,
        },
        Event::WorkerRegistered(_)
        | Event::WorkerSuspected(_)
        | Event::WorkerRecovered(_)
        | Event::WorkerLost(_)
        | Event::WorkerDrained(_)
        | Event::WorkerUndrained(_)
        | Event::LeaderTookOver(_)
        | Event::CommandFaulted(_)
        | Event::VersionRaised(_)
        | Event::HintsUsed(_) => None,
    }
}
