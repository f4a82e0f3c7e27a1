//! No task runs twice at once: an attempt starts only when no process of an earlier one is left, anywhere.
//! Tasks that go on through partitions are excepted, since that is what they asked for.

use super::{Verdict, broken};
use crate::sim::worker::Worker;
use muster_protocol::ids::AttemptId;
use muster_protocol::spec::OnPartition;

/// An attempt is about to start.
pub fn single_copy(workers: &[Worker], starting: AttemptId) -> Verdict {
    for worker in workers {
        for (attempt, execution) in &worker.executions {
            if attempt.task == starting.task && execution.launch.on_partition == OnPartition::Stop {
                return broken(
                    "single copy",
                    format!("{starting} starts while {attempt} still runs on {}", worker.identity),
                );
            }
        }
    }
    Ok(())
}
