//! Commands that wait for their turn in the log, and how many of them make one entry.

use muster_protocol::codec;
use muster_protocol::envelope::Envelope;
use muster_protocol::ids::{BootId, LogIndex, RequestId, WorkerIdentity};
use muster_protocol::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, NAME_BYTES_MAX};
use muster_protocol::worker::Liveness;
use std::collections::VecDeque;

/// Commands that wait or are proposed, at most; what comes then is told so.
pub(super) const WAITING_COMMANDS_MAX: usize = 65_536;
/// Bytes of commands that wait, at most.
pub(super) const WAITING_BYTES_MAX: usize = 32 << 20;
/// What a batch takes beside its commands, at most.
const BATCH_BYTES_FIXED: usize = 64 + NAME_BYTES_MAX;

/// One life of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    pub identity: WorkerIdentity,
    pub boot: BootId,
}

/// Who waits for what a command comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// A client of the driver.
    Client { token: u64 },
    /// A client that was told already that nobody knows.
    Gone,
    /// The takeover itself.
    Takeover,
    /// The scheduler: one `Assign` at a time.
    Assign,
    /// The timers.
    Timers,
    /// A worker whose liveness changes.
    Liveness { life: Life, liveness: Liveness },
    /// A worker that said hello.
    Hello { life: Life },
    /// A worker that drains.
    Drain { life: Life },
    /// A worker's reports up to a number.
    Reports { life: Life, upto: u64 },
    /// A worker's progress records up to a number.
    Progress { life: Life, upto: u64 },
    /// An attempt that asked.
    Call { life: Life, id: RequestId },
}

/// A command that waits.
#[derive(Debug)]
pub(super) struct Item {
    pub envelope: Envelope,
    pub slot: Slot,
    pub bytes: usize,
    /// When its client is told that nobody knows; never for the leader's own.
    pub deadline_ms: u64,
}

impl Item {
    pub(super) fn new(envelope: Envelope, slot: Slot, deadline_ms: u64) -> Item {
        let bytes = codec::encode(&envelope).len();
        Item { envelope, slot, bytes, deadline_ms }
    }
}

/// Commands that wait, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether clients and workers have to come again later. The leader's own commands are few, and always go
    /// in.
    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= WAITING_COMMANDS_MAX || self.bytes >= WAITING_BYTES_MAX
    }

    pub(super) fn push(&mut self, item: Item) {
        self.bytes += item.bytes;
        self.items.push_back(item);
    }

    /// The commands of the next entry.
    pub(super) fn next_batch(&mut self) -> Vec<Item> {
        let mut batch = Vec::new();
        let mut bytes = BATCH_BYTES_FIXED;
        while let Some(item) = self.items.front() {
            if batch.len() == BATCH_COMMANDS_MAX
                || (!batch.is_empty() && bytes + item.bytes > BATCH_BYTES_MAX)
            {
                break;
            }
            bytes += item.bytes;
            self.bytes -= item.bytes;
            batch.extend(self.items.pop_front());
        }
        batch
    }

    /// Puts back what could not be proposed.
    pub(super) fn put_back(&mut self, batch: Vec<Item>) {
        for item in batch.into_iter().rev() {
            self.bytes += item.bytes;
            self.items.push_front(item);
        }
    }

    /// Takes out what has waited too long.
    pub(super) fn expire(&mut self, mono_ms: u64) -> Vec<Slot> {
        let mut expired = Vec::new();
        let bytes = &mut self.bytes;
        self.items.retain(|item| {
            let keep = item.deadline_ms > mono_ms;
            if !keep {
                *bytes -= item.bytes;
                expired.push(item.slot);
            }
            keep
        });
        expired
    }

    /// Everybody who waits here.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.items.iter().map(|item| item.slot)
    }
}

/// An entry that was proposed, and who waits for it.
#[derive(Debug)]
struct Proposed {
    index: LogIndex,
    slots: Vec<(Slot, u64)>,
}

/// Entries that were proposed in this term and are not applied yet, in order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: VecDeque<Proposed>,
    commands: usize,
}

impl Pending {
    /// Commands in all of them.
    pub(super) fn commands(&self) -> usize {
        self.commands
    }

    pub(super) fn push(&mut self, index: LogIndex, slots: Vec<(Slot, u64)>) {
        self.commands += slots.len();
        self.entries.push_back(Proposed { index, slots });
    }

    /// Those who wait for the entry at `index`. A leader's log never loses what it proposed, so indices
    /// match.
    pub(super) fn take(&mut self, index: LogIndex) -> Vec<Slot> {
        match self.entries.front() {
            Some(first) if first.index == index => {
                let slots = self.entries.pop_front().map(|proposed| proposed.slots).unwrap_or_default();
                self.commands -= slots.len();
                slots.into_iter().map(|(slot, _)| slot).collect()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Clients that have waited too long; they wait no more.
    pub(super) fn expire(&mut self, mono_ms: u64) -> Vec<Slot> {
        let slots = self.entries.iter_mut().flat_map(|proposed| &mut proposed.slots);
        let expired = slots.filter(|(_, deadline_ms)| *deadline_ms <= mono_ms);
        expired
            .map(|expired| {
                expired.1 = u64::MAX;
                std::mem::replace(&mut expired.0, Slot::Gone)
            })
            .collect()
    }

    /// Everybody who waits here.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.entries.iter().flat_map(|proposed| proposed.slots.iter().map(|(slot, _)| *slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::command::{AdvanceTime, CancelJob, Command};
    use muster_protocol::ids::JobId;

    fn item(token: u64, bytes: usize) -> Item {
        let command = match bytes {
            0 => Command::AdvanceTime(AdvanceTime {}),
            _ => Command::CancelJob(CancelJob { job: JobId(1), reason: "x".repeat(bytes) }),
        };
        let envelope = Envelope {
            request: RequestId::NIL,
            actor: String::new(),
            client: String::new(),
            namespace: String::new(),
            trace: String::new(),
            cause: LogIndex(0),
            command,
        };
        Item::new(envelope, Slot::Client { token }, 10 + token)
    }

    #[test]
    fn a_batch_is_limited_by_number_and_by_bytes() {
        let mut queue = Queue::default();
        (0..BATCH_COMMANDS_MAX as u64 + 3).for_each(|token| queue.push(item(token, 0)));
        assert_eq!(queue.next_batch().len(), BATCH_COMMANDS_MAX);
        assert_eq!(queue.next_batch().len(), 3);
        (0..9).for_each(|token| queue.push(item(token, 1 << 20)));
        let sizes: Vec<usize> =
            std::iter::from_fn(|| Some(queue.next_batch().len()).filter(|len| *len > 0)).collect();
        assert_eq!(sizes, [3, 3, 3]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn what_is_put_back_comes_first_again_and_old_things_expire() {
        let mut queue = Queue::default();
        (0..4).for_each(|token| queue.push(item(token, 0)));
        let batch = queue.next_batch();
        queue.push(item(9, 0));
        queue.put_back(batch);
        assert_eq!(queue.expire(11), [Slot::Client { token: 0 }, Slot::Client { token: 1 }]);
        let left: Vec<Slot> = queue.slots().collect();
        assert_eq!(left, [Slot::Client { token: 2 }, Slot::Client { token: 3 }, Slot::Client { token: 9 }]);
    }

    #[test]
    fn an_expired_client_is_told_once() {
        let mut pending = Pending::default();
        pending.push(LogIndex(7), vec![(Slot::Client { token: 1 }, 5), (Slot::Assign, u64::MAX)]);
        assert_eq!(pending.expire(5), [Slot::Client { token: 1 }]);
        assert_eq!(pending.expire(6), []);
        assert_eq!(pending.take(LogIndex(6)), []);
        assert_eq!(pending.take(LogIndex(7)), [Slot::Gone, Slot::Assign]);
        assert_eq!(pending.commands(), 0);
    }
}
