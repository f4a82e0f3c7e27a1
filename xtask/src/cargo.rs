//! Runs cargo, always with the same profile, and other programs.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

/// The profile of tests, clippy, docs and the demo, so that dependencies are built once.
pub const PROFILE: &str = "ci";

/// The workspace's root.
pub fn root() -> PathBuf {
    // `cargo run` sets the variable for the tree that it runs in. The path of the build may be another one,
    // if two trees share a target folder.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(manifest).parent().map(PathBuf::from).unwrap_or_default()
}

/// Runs a benchmark in the workspace's root and returns the JSON object that it prints to standard output.
pub fn json_of(bench: &mut Command) -> Result<Value> {
    let output = bench
        .current_dir(root())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the bench")?
        .wait_with_output()?;
    if !output.status.success() {
        bail!("run the bench: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("read the result of the bench")
}

/// `cargo` in the workspace's root.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    // `cargo run` sets variables about xtask's own package. Build scripts that watch them (ring's) would run
    // again, and everything that depends on them would be compiled again.
    let of_this_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_this_package)) {
        command.env_remove(name);
    }
    command
}

pub fn target_directory() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

pub fn binary(profile: &str, name: &str) -> PathBuf {
    let directory = if profile == "dev" { "debug" } else { profile };
    target_directory().join(directory).join(name)
}

/// Runs a command to its end.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("start {:?}", command.get_program()))
}

/// Builds all targets, tests included, so that features unify in the same way in every step.
pub fn build(profile: &str) -> Result<bool> {
    Ok(status(&mut cargo(&["build", "--workspace", "--all-targets", "--profile", profile]))?.success())
}

/// The packages that builds for oracles and benches of the engine name, so that features unify in the same
/// way.
pub const ENGINE_PACKAGES: [&str; 8] =
    ["-p", "muster-data", "-p", "muster-llm", "-p", "muster-worker", "-p", "muster"];
