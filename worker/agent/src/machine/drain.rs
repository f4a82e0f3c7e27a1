//! How far the agent's shutdown is: it takes no new work, waits for running attempts, ends what is left, and
//! exits once every report is acknowledged.

/// How long it waits for acknowledgements after the last attempt has ended.
const FLUSH_MS: u64 = 3_000;

#[derive(Debug, PartialEq, Eq)]
pub enum Drain {
    NotDraining,
    /// Running attempts may go on until then.
    Waiting {
        until: u64,
    },
    /// Running attempts are being ended.
    Ending,
    /// Nothing runs; acknowledgements are awaited until then.
    Flushing {
        until: u64,
    },
    Exited,
}

impl Drain {
    pub fn is_on(&self) -> bool {
        *self != Drain::NotDraining
    }

    /// Begins to wait; false if the drain has begun before.
    pub fn begin(&mut self, until: u64) -> bool {
        let begins = !self.is_on();
        if begins {
            *self = Drain::Waiting { until };
        }
        begins
    }

    /// Whether the time for running attempts has just run out.
    pub fn wait_is_over(&mut self, now_ms: u64) -> bool {
        let over = matches!(self, Drain::Waiting { until } if now_ms >= *until);
        if over {
            *self = Drain::Ending;
        }
        over
    }

    /// Ends the wait for running attempts early; false if nothing is left to end.
    pub fn cut_short(&mut self) -> bool {
        let cut = matches!(self, Drain::Waiting { .. } | Drain::Ending);
        if cut {
            *self = Drain::Ending;
        }
        cut
    }

    /// Whether the agent must exit now. `idle`: no attempt is held. `flushed`: everything is acknowledged, or
    /// cannot be.
    pub fn must_exit(&mut self, now_ms: u64, idle: bool, flushed: bool) -> bool {
        if matches!(self, Drain::Waiting { .. } | Drain::Ending) && idle {
            *self = Drain::Flushing { until: now_ms + FLUSH_MS };
        }
        let exits = matches!(self, Drain::Flushing { until } if flushed || now_ms >= *until);
        if exits {
            *self = Drain::Exited;
        }
        exits
    }
}
