//! Muster's own executors: what a stage runs with `executor = "train"` and the like, each in a process of its own.

use std::process::ExitCode;

/// Runs the executor `name` as the attempt that the environment describes.
#[must_use]
pub fn main(name: &str) -> ExitCode {
    let _ = name;
    ExitCode::FAILURE
}
