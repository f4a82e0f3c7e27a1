//! Timers that are due: backoffs end, and attempts time out.

use super::decider::Decider;
use crate::state::Timer;
use alloc::format;
use alloc::vec::Vec;
use muster_protocol::event::{Event, TaskEvent};
use muster_protocol::outcome::{Outcome, Reason};
use muster_protocol::rejection::Rejection;

/// Timers that one command fires at most; the next command fires the rest.
const TIMERS_MAX: usize = 4096;

impl Decider<'_> {
    pub fn advance_time(&mut self) -> Result<(), Rejection> {
        let now = self.state.now().log_ms;
        let due = self.state.index.timers.keys().take_while(|(at, _)| *at <= now).take(TIMERS_MAX);
        let due: Vec<Timer> = due.map(|(_, timer)| *timer).collect();
        for timer in due {
            match timer {
                Timer::Backoff(task) => self.push(Event::TaskReadied(TaskEvent { task })),
                Timer::Timeout(attempt) => {
                    if let Some((job, stage, active)) = self.state.active_attempt(attempt)
                        && active.stopping.is_none()
                    {
                        let message = format!("ran longer than {} ms", job.stage_spec(stage).timeout_ms);
                        self.push_stopped(attempt, Outcome::TimedOut(Reason { message }));
                    }
                }
            }
        }
        Ok(())
    }
}
