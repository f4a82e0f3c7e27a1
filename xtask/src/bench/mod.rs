//! `cargo xtask bench NAME`: builds a benchmark, runs it, and compares its result.

mod data;
mod diloco;
mod gpu;
mod side;
mod train;

use crate::{cargo, nats};
use anyhow::{Result, bail};
use std::process::Command;

pub fn bench(name: &str, json: bool, profile: &str, rest: &[String]) -> Result<bool> {
    match name {
        "spine" => spine(json, profile, rest),
        "data" => data::bench(json, profile, rest),
        "train" => train::bench(json, rest),
        "diloco" => diloco::bench(json, rest),
        "collective" => collective(json, profile, rest),
        other => bail!(
            "find a bench named {other:?}: there are `spine`, `data`, `train`, `diloco` and `collective`"
        ),
    }
}

/// The all-reduce against the raw loopback. It is an example of worker/collective, so that it is built like
/// it.
fn collective(json: bool, profile: &str, rest: &[String]) -> Result<bool> {
    if !cargo::build(profile)? {
        bail!("build the workspace");
    }
    let mut command = Command::new(cargo::binary(profile, "examples/bench_collective"));
    Ok(cargo::status(command.current_dir(cargo::root()).args(json.then_some("--json")).args(rest))?.success())
}

fn spine(json: bool, profile: &str, rest: &[String]) -> Result<bool> {
    nats::ensure()?;
    // Cargo prints to standard error, so standard output stays one JSON object.
    if !cargo::build(profile)? {
        bail!("build the workspace");
    }
    let mut command = Command::new(cargo::binary(profile, "bench_spine"));
    command
        .current_dir(cargo::root())
        .env("MUSTER_BIN", cargo::binary(profile, "muster"))
        .args(json.then_some("--json"))
        .args(rest);
    Ok(cargo::status(&mut command)?.success())
}
