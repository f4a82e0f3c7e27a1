//! How an agent ends: it takes no new work, waits for what runs, ends what does not end, and leaves once all
//! of it is acknowledged.

use super::lifecycle::lost;
use super::{Action, Agent};
use muster_protocol::bus::{Draining, Up};

/// How long it waits for acknowledgements after everything has ended.
const FAREWELL_MS: u64 = 3_000;

/// How far the end of the agent is.
#[derive(Debug, PartialEq, Eq)]
pub enum Drain {
    /// It is not told to end.
    No,
    /// What runs may run until then.
    Waiting { until: u64 },
    /// What runs is being ended.
    Ending,
    /// Nothing runs; acknowledgements are awaited until then.
    Farewell { until: u64 },
    /// It has left.
    Gone,
}

impl Drain {
    pub fn is_on(&self) -> bool {
        *self != Drain::No
    }
}

impl Agent {
    pub(super) fn begin_drain(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        if self.drain.is_on() {
            return;
        }
        self.drain = Drain::Waiting { until: now_ms.saturating_add(self.config.drain_ms) };
        self.repeat_draining(out);
        self.drop_all_queued(&lost("its worker drains"));
        self.advance_drain(now_ms, out);
    }

    pub(super) fn hurry(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        self.begin_drain(now_ms, out);
        if matches!(self.drain, Drain::Waiting { .. } | Drain::Ending) {
            self.drain = Drain::Ending;
            self.end_all(now_ms, &lost("its worker was ended"), |_| 0, out);
        }
    }

    /// Said with every heartbeat, since nobody acknowledges it.
    pub(super) fn repeat_draining(&self, out: &mut dyn FnMut(Action)) {
        if self.drain.is_on() && self.lease.worker().is_some() {
            out(Action::Send(Up::Draining(Draining {})));
        }
    }

    pub(super) fn advance_drain(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        if let Drain::Waiting { until } = self.drain
            && now_ms >= until
        {
            self.drain = Drain::Ending;
            self.end_all(now_ms, &lost("its worker was ended"), |launch| launch.grace_ms, out);
        }
    }

    /// Leaves once nothing runs and all is acknowledged, or cannot be.
    pub(super) fn exit_if_done(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        if matches!(self.drain, Drain::Waiting { .. } | Drain::Ending) && self.attempts.is_empty() {
            self.drain = Drain::Farewell { until: now_ms + FAREWELL_MS };
        }
        if let Drain::Farewell { until } = self.drain {
            let said = self.reports.len() == 0 && self.deferred.is_empty() && self.progress.len() == 0;
            if said || now_ms >= until || self.lease.worker().is_none() {
                self.drain = Drain::Gone;
                out(Action::Exit);
            }
        }
    }
}
