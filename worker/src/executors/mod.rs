//! Muster's own executors: what a stage runs with `executor = "train"` and the like, each in a process of its own.
//!
//! They join the library `muster-llm`, which knows nothing of jobs, to the scheduler: inputs come from the outputs of other stages
//! and from parameters, results go to the artifacts under their hashes, and the hashes into outputs and records. A task that is killed and
//! started again finds what it recorded, and goes on from there.
//!
//! **Boundary**: nothing here knows how an attempt was started; all that it is told stands in [`attempt::Attempt`].

mod catalogue;
mod params;
mod rules;

#[cfg(feature = "llm")]
mod agent;
#[cfg(feature = "llm")]
mod annotate;
#[cfg(feature = "llm")]
mod attempt;
#[cfg(feature = "llm")]
mod data;
#[cfg(feature = "llm")]
mod error;
#[cfg(feature = "llm")]
mod eval;
#[cfg(feature = "llm")]
mod load;
#[cfg(feature = "llm")]
mod model;
#[cfg(all(test, feature = "llm"))]
mod tests;
#[cfg(feature = "llm")]
mod train;
#[cfg(feature = "llm")]
mod wire;

pub use catalogue::{EXECUTORS, Executor, Key, Kind};
pub use params::{Error as ParamsError, check};

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Runs the executor `name` as the attempt that the environment describes. Blocks until it ends; not for asynchronous code.
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

#[cfg(not(feature = "llm"))]
fn run(name: &str) -> Result<(), String> {
    Err(format!("run the executor `{name}`: this build has none, since it was made without the feature `llm`"))
}

#[cfg(feature = "llm")]
fn run(name: &str) -> Result<(), String> {
    let told = |error: error::Error| error.to_string();
    let mut attempt = attempt::Attempt::from_env(name).map_err(told)?;
    dispatch(name, &mut attempt).map_err(told)
}

#[cfg(feature = "llm")]
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
        other => Err(error::Error::Unfit(format!("run the executor `{other}`: it is in the list, but nothing runs it"))),
    }
}
