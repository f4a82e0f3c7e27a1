//! Muster's own executors: what a stage runs with `executor = "train"` and the like, each in a process of its
//! own.
//!
//! They join the libraries, which know nothing of jobs, to the scheduler: inputs come from the outputs of
//! other stages and from parameters, results go to the artifacts under their hashes, and the hashes into
//! outputs and records. A task that is killed and started again finds what it recorded, and goes on from
//! there.
//!
//! **Boundary**: nothing here knows how an attempt was started; all that it is told stands in
//! [`muster_attempt::Attempt`]. Imports go to the libraries, never to the agent or the coordinators.

mod agent;
mod data;
mod error;
mod eval;
mod executor;
mod launch;
mod load;
mod model;
mod outputs;
mod params;
mod place;
mod reference;
#[cfg(test)]
mod tests;
mod train;
mod wait_times;

pub use executor::{EXECUTORS, Executor, check};
pub use params::{Condition, Error as ParamsError, Parameter, Source, ValueType, Values};
pub use reference::reference;
pub use wait_times::WaitTimes;

use error::Error;
use muster_attempt::Attempt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Runs the executor `name` as the attempt that the environment describes. Blocks until it ends; not for
/// asynchronous code.
#[must_use]
pub fn main(name: &str) -> ExitCode {
    let attempt = Attempt::from_env().map_err(Error::from);
    match attempt.and_then(|mut attempt| run(name, &mut attempt, &WaitTimes::default())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If even this can't be written, the exit code still reports the failure.
            let _ = writeln!(io::stderr(), "error: {name}: failed to {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, attempt: &mut Attempt, waits: &WaitTimes) -> Result<(), Error> {
    let executor = executor::find(name)?;
    let launch = &attempt.launch;
    let values = executor::merge(executor, &launch.job_params, attempt.stage_params(), &launch.child_params)?;
    (executor.run)(attempt, &values, waits)
}
