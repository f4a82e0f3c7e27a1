//! Log time as a leader stamps it: log time at its takeover, plus its own monotonic time since then.

use crate::io::Now;
use muster_protocol::time::LogMs;

#[derive(Clone, Copy, Debug)]
pub struct LogClock {
    base: LogMs,
    base_mono_ms: u64,
}

impl LogClock {
    /// `base`: log time at the takeover, which is applied `now`.
    pub fn starting(base: LogMs, now: Now) -> Self {
        LogClock { base, base_mono_ms: now.mono_ms }
    }

    pub fn log_ms(&self, now: Now) -> LogMs {
        self.base.plus_ms(now.mono_ms.saturating_sub(self.base_mono_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_moves_nothing_and_monotonic_time_never_goes_back() {
        let clock = LogClock::starting(LogMs(700), Now { mono_ms: 50, wall_ms: 1 });
        assert_eq!(clock.log_ms(Now { mono_ms: 80, wall_ms: u64::MAX }), LogMs(730));
        assert_eq!(clock.log_ms(Now { mono_ms: 10, wall_ms: 0 }), LogMs(700));
    }
}
