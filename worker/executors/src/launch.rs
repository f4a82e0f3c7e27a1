//! What an attempt's launch means to the libraries: threads, and the place in a gang.

use crate::error::Error;
use muster_attempt::Attempt;
use muster_collective::Member;
use muster_host::compute::Compute;

const THREADS_MAX: usize = 256;

/// A pool of one thread for each CPU that was granted.
pub fn compute(attempt: &Attempt) -> Result<Compute, Error> {
    let threads = attempt.launch.request.cpu_milli.div_ceil(1000).max(1) as usize;
    Ok(Compute::new(threads.min(THREADS_MAX))?)
}

/// The formation of the gang; 0 without one.
pub fn formation(attempt: &Attempt) -> u32 {
    attempt.launch.gang.as_ref().map_or(0, |gang| gang.formation)
}

/// This rank of the gang.
pub fn member(attempt: &Attempt) -> Member {
    Member {
        cluster: attempt.cluster.clone(),
        job: attempt.task().job.to_string(),
        stage: attempt.launch.stage.0,
        formation: formation(attempt),
        rank: attempt.launch.rank,
        world: attempt.launch.world,
    }
}
