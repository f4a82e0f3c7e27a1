//! What happens because a moment has come: backoffs are over, and attempts have run too long.

use super::draft::{Draft, DraftTask};
use crate::state::Timer;
use alloc::format;
use muster_protocol::outcome::{Outcome, Reason};
use muster_protocol::rejection::Rejection;

/// Timers that one command fires at most; the next command fires the rest.
const TIMERS_MAX: usize = 4096;

impl Draft<'_> {
    pub fn advance_time(&mut self) -> Result<(), Rejection> {
        let now = self.state.now().log_ms;
        for (_, timer) in self.state.index.timers.iter().take_while(|(at, _)| *at <= now).take(TIMERS_MAX) {
            match timer {
                Timer::Backoff(task) => self.push_readied(*task),
                Timer::Timeout(attempt) => {
                    if let DraftTask::Live { stopping: None } = self.task(attempt.task)
                        && let Some((job, stage, _)) = self.state.live(*attempt)
                    {
                        let message = format!("ran longer than {} ms", job.stage_spec(stage).timeout_ms);
                        self.push_stopped(*attempt, Outcome::TimedOut(Reason { message }));
                    }
                }
            }
        }
        Ok(())
    }
}
