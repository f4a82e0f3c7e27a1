//! No task runs twice at the same time: when an attempt starts, no process of an earlier one is left on any
//! worker. Tasks with `OnPartition::Continue` are exempt.

use super::{InvariantResult, violated};
use crate::sim::worker::Worker;
use muster_protocol::ids::AttemptId;
use muster_protocol::spec::OnPartition;

pub fn single_copy(workers: &[Worker], starting: AttemptId) -> InvariantResult {
    for worker in workers {
        for (attempt, execution) in &worker.executions {
            if attempt.task == starting.task && execution.launch.on_partition == OnPartition::Stop {
                return violated(
                    "single copy",
                    format!("{starting} starts while {attempt} still runs on {}", worker.identity),
                );
            }
        }
    }
    Ok(())
}
