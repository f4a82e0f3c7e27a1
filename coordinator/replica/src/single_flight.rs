//! A periodic duty of the leader of which at most one is in the log at a time.

use crate::io::Now;

#[derive(Clone, Copy, Debug, Default)]
pub struct SingleFlight {
    in_flight: bool,
    not_before_ms: u64,
}

impl SingleFlight {
    pub fn is_free(&self, now: Now) -> bool {
        !self.in_flight && now.mono_ms >= self.not_before_ms
    }

    pub fn start(&mut self) {
        self.in_flight = true;
    }

    /// It is applied or dropped; the next one may start after `pause_ms`.
    pub fn finish(&mut self, now: Now, pause_ms: u64) {
        *self = SingleFlight { in_flight: false, not_before_ms: now.mono_ms + pause_ms };
    }
}
