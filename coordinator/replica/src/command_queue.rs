//! Commands on their way into the log: queued, then proposed; and who waits for the answer of each.

use crate::sessions::{Numbered, WorkerIncarnation};
use muster_protocol::codec;
use muster_protocol::envelope::Envelope;
use muster_protocol::ids::{LogIndex, RequestId};
use muster_protocol::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, NAME_BYTES_MAX};
use muster_protocol::worker::Liveness;
use std::collections::VecDeque;

/// Commands that are queued or proposed; more are refused.
pub const WAITING_COMMANDS_MAX: usize = 65_536;
/// Bytes of queued commands; more are refused.
pub const WAITING_BYTES_MAX: usize = 32 << 20;
/// The size of a batch without its commands.
const BATCH_BYTES_FIXED: usize = 64 + NAME_BYTES_MAX;

/// Who waits for the outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// A client of the driver.
    Client {
        token: u64,
    },
    /// A client that was already told that the outcome is unknown.
    TimedOut,
    Takeover,
    /// The scheduler: one `Assign` is in flight at a time.
    Assign,
    Timers,
    Liveness {
        incarnation: WorkerIncarnation,
        liveness: Liveness,
    },
    Hello {
        incarnation: WorkerIncarnation,
    },
    Drain {
        incarnation: WorkerIncarnation,
    },
    /// A worker, for reports or progress records up to a number.
    Numbered {
        kind: Numbered,
        incarnation: WorkerIncarnation,
        upto: u64,
    },
    /// An attempt that called.
    Call {
        incarnation: WorkerIncarnation,
        id: RequestId,
    },
}

#[derive(Debug)]
pub struct QueuedCommand {
    pub envelope: Envelope,
    pub waiter: Waiter,
    pub bytes: usize,
    /// When its client is told that the outcome is unknown; `u64::MAX` for the leader's own.
    pub deadline_ms: u64,
}

impl QueuedCommand {
    pub fn new(envelope: Envelope, waiter: Waiter, deadline_ms: u64) -> QueuedCommand {
        let bytes = codec::encode(&envelope).len();
        QueuedCommand { envelope, waiter, bytes, deadline_ms }
    }
}

#[derive(Debug, Default)]
pub struct CommandQueue {
    queued: VecDeque<QueuedCommand>,
    bytes: usize,
}

impl CommandQueue {
    pub fn len(&self) -> usize {
        self.queued.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Whether clients and workers have to retry later. The leader's own commands are few and always
    /// accepted.
    pub fn is_full(&self) -> bool {
        self.queued.len() >= WAITING_COMMANDS_MAX || self.bytes >= WAITING_BYTES_MAX
    }

    pub fn push(&mut self, command: QueuedCommand) {
        self.bytes += command.bytes;
        self.queued.push_back(command);
    }

    /// Takes the commands of the next entry.
    pub fn next_batch(&mut self) -> Vec<QueuedCommand> {
        let mut batch = Vec::new();
        let mut bytes = BATCH_BYTES_FIXED;
        while let Some(command) = self.queued.front() {
            if batch.len() == BATCH_COMMANDS_MAX
                || (!batch.is_empty() && bytes + command.bytes > BATCH_BYTES_MAX)
            {
                break;
            }
            bytes += command.bytes;
            self.bytes -= command.bytes;
            batch.extend(self.queued.pop_front());
        }
        batch
    }

    /// Puts back what could not be proposed.
    pub fn put_back(&mut self, batch: Vec<QueuedCommand>) {
        for command in batch.into_iter().rev() {
            self.bytes += command.bytes;
            self.queued.push_front(command);
        }
    }

    /// Removes commands past their deadline.
    pub fn expire(&mut self, mono_ms: u64) -> Vec<Waiter> {
        let mut expired = Vec::new();
        let bytes = &mut self.bytes;
        self.queued.retain(|command| {
            let keep = command.deadline_ms > mono_ms;
            if !keep {
                *bytes -= command.bytes;
                expired.push(command.waiter);
            }
            keep
        });
        expired
    }

    pub fn waiters(&self) -> impl Iterator<Item = Waiter> {
        self.queued.iter().map(|command| command.waiter)
    }
}

#[derive(Debug)]
struct ProposedEntry {
    index: LogIndex,
    waiters: Vec<(Waiter, u64)>,
}

/// Entries that were proposed in this term and are not applied, in order.
#[derive(Debug, Default)]
pub struct ProposedEntries {
    entries: VecDeque<ProposedEntry>,
    commands: usize,
}

impl ProposedEntries {
    pub fn commands(&self) -> usize {
        self.commands
    }

    pub fn push(&mut self, index: LogIndex, waiters: Vec<(Waiter, u64)>) {
        self.commands += waiters.len();
        self.entries.push_back(ProposedEntry { index, waiters });
    }

    /// Who waits for the entry at `index`, in the order of its commands. A leader's log never loses what it
    /// proposed, so indices match.
    pub fn take(&mut self, index: LogIndex) -> Vec<Waiter> {
        match self.entries.front() {
            Some(first) if first.index == index => {
                let waiters = self.entries.pop_front().map(|proposed| proposed.waiters).unwrap_or_default();
                self.commands -= waiters.len();
                waiters.into_iter().map(|(waiter, _)| waiter).collect()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Clients past their deadline; each is returned once.
    pub fn expire(&mut self, mono_ms: u64) -> Vec<Waiter> {
        let waiters = self.entries.iter_mut().flat_map(|proposed| &mut proposed.waiters);
        let expired = waiters.filter(|(_, deadline_ms)| *deadline_ms <= mono_ms);
        expired
            .map(|expired| {
                expired.1 = u64::MAX;
                std::mem::replace(&mut expired.0, Waiter::TimedOut)
            })
            .collect()
    }

    pub fn waiters(&self) -> impl Iterator<Item = Waiter> {
        self.entries.iter().flat_map(|proposed| proposed.waiters.iter().map(|(waiter, _)| *waiter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::command::{AdvanceTime, CancelJob, Command};
    use muster_protocol::ids::JobId;

    fn command(token: u64, bytes: usize) -> QueuedCommand {
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
        QueuedCommand::new(envelope, Waiter::Client { token }, 10 + token)
    }

    #[test]
    fn a_batch_is_limited_by_count_and_by_bytes() {
        let mut queue = CommandQueue::default();
        (0..BATCH_COMMANDS_MAX as u64 + 3).for_each(|token| queue.push(command(token, 0)));
        assert_eq!(queue.next_batch().len(), BATCH_COMMANDS_MAX);
        assert_eq!(queue.next_batch().len(), 3);
        (0..9).for_each(|token| queue.push(command(token, 1 << 20)));
        let sizes: Vec<usize> =
            std::iter::from_fn(|| Some(queue.next_batch().len()).filter(|len| *len > 0)).collect();
        assert_eq!(sizes, [3, 3, 3]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_batch_that_is_put_back_comes_first_and_old_commands_expire() {
        let mut queue = CommandQueue::default();
        (0..4).for_each(|token| queue.push(command(token, 0)));
        let batch = queue.next_batch();
        queue.push(command(9, 0));
        queue.put_back(batch);
        assert_eq!(queue.expire(11), [Waiter::Client { token: 0 }, Waiter::Client { token: 1 }]);
        let left: Vec<Waiter> = queue.waiters().collect();
        assert_eq!(
            left,
            [Waiter::Client { token: 2 }, Waiter::Client { token: 3 }, Waiter::Client { token: 9 }]
        );
    }

    #[test]
    fn a_client_expires_once() {
        let mut pending = ProposedEntries::default();
        pending.push(LogIndex(7), vec![(Waiter::Client { token: 1 }, 5), (Waiter::Assign, u64::MAX)]);
        assert_eq!(pending.expire(5), [Waiter::Client { token: 1 }]);
        assert_eq!(pending.expire(6), []);
        assert_eq!(pending.take(LogIndex(6)), []);
        assert_eq!(pending.take(LogIndex(7)), [Waiter::TimedOut, Waiter::Assign]);
        assert_eq!(pending.commands(), 0);
    }
}
