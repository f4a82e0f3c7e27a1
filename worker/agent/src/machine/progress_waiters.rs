//! Connections that wait for an answer to a progress record: until it is acknowledged, or, as back-pressure,
//! until fewer records are unacknowledged.

use super::input::Action;
use super::send_window::SendWindow;
use muster_protocol::worker::ProgressRecord;
use std::collections::VecDeque;

/// With more unacknowledged progress than this, writers wait for their answers.
const PROGRESS_UNACKED_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
pub struct ProgressWaiters {
    /// `(record, caller)`: answered once that record is acknowledged.
    for_ack: VecDeque<(u64, u64)>,
    /// Answered once the unacknowledged bytes are below the limit.
    for_space: VecDeque<u64>,
}

impl ProgressWaiters {
    /// Answers the caller of `record` now, or once it may go on.
    pub fn answer(
        &mut self,
        record: u64,
        caller: u64,
        wait: bool,
        progress: &SendWindow<ProgressRecord>,
        out: &mut dyn FnMut(Action),
    ) {
        if wait {
            self.for_ack.push_back((record, caller));
        } else if progress.bytes() >= PROGRESS_UNACKED_BYTES_MAX {
            self.for_space.push_back(caller);
        } else {
            out(Action::accept(caller));
        }
    }

    /// After an acknowledgement: answers everyone who may go on.
    pub fn acknowledged(&mut self, progress: &SendWindow<ProgressRecord>, out: &mut dyn FnMut(Action)) {
        while let Some((_, caller)) = self.for_ack.front().copied().filter(|(seq, _)| progress.is_acked(*seq))
        {
            self.for_ack.pop_front();
            out(Action::accept(caller));
        }
        if progress.bytes() < PROGRESS_UNACKED_BYTES_MAX {
            self.for_space.drain(..).for_each(|caller| out(Action::accept(caller)));
        }
    }
}
