//! Muster's own executors: what a stage runs with `executor = "train"` and the like, each in a process of its
//! own.
//!
//! They join the library `muster-llm`, which knows nothing of jobs, to the scheduler: inputs come from the
//! outputs of other stages and from parameters, results go to the artifacts under their hashes, and the
//! hashes into outputs and records. A task that is killed and started again finds what it recorded, and goes
//! on from there.
//!
//! **Boundary**: nothing here knows how an attempt was started; all that it is told stands in
//! [`attempt::Attempt`].

mod catalogue;
mod params;
mod rules;

mod agent;
mod annotate;
mod attempt;
mod data;
mod error;
mod eval;
mod load;
mod model;
#[cfg(test)]
mod tests;
mod train;
mod wire;

pub use catalogue::{EXECUTORS, Executor, Key, Kind};
pub use params::{Error as ParamsError, check};

use std::io::{self, Write};
use std::process::ExitCode;

/// Runs the executor `name` as the attempt that the environment describes. Blocks until it ends; not for
/// asynchronous code.
#[must_use]
pub fn main(name: &str) -> ExitCode {
    match run(name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // If even this can't be said, the exit code still says that it failed.
            let _ = writeln!(io::stderr(), "error: {name}: failed to {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str) -> Result<(), String> {
    let told = |error: error::Error| error.to_string();
    let mut attempt = attempt::Attempt::from_env(name).map_err(told)?;
    dispatch(name, &mut attempt).map_err(told)
}

fn dispatch(name: &str, attempt: &mut attempt::Attempt) -> Result<(), error::Error> {
    match name {
        "data.scan" => data::scan::run(attempt),
        "data.dedup" => data::dedup::run(attempt),
        "data.choose" => data::choose::run(attempt),
        "data.tokenizer" => data::tokenizer::run(attempt),
        "data.pack" => data::pack::run(attempt),
        "data.manifest" => data::manifest::run(attempt),
        "data.annotate" => annotate::run(attempt),
        "data.load" => load::run(attempt),
        "train" => train::run(attempt),
        "eval" => eval::run(attempt),
        "agent.plan" => agent::plan::run(attempt),
        "agent.complete" => agent::complete::run(attempt),
        "agent.verify" => agent::verify::run(attempt),
        "agent.join" => agent::join::run(attempt),
        other => Err(error::Error::Unfit(format!(
            "run the executor `{other}`: it is in the list, but nothing runs it"
        ))),
    }
}
