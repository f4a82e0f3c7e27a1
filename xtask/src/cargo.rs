//! Runs cargo, with the one profile, and other programs.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

/// Tests, clippy, docs and the demo share this profile: dependencies are built once.
pub const PROFILE: &str = "ci";

/// The workspace's root.
pub fn root() -> PathBuf {
    // `cargo run` sets the variable for the tree that it runs in. The path of the build may be another one, if
    // two trees share a target folder.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(manifest).parent().map(PathBuf::from).unwrap_or_default()
}

/// What a bench, started in the workspace's root, finds: the one JSON object that it prints. What it says
/// besides goes to our own error stream.
pub fn found(bench: &mut Command) -> Result<Value> {
    let output = bench
        .current_dir(root())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the bench")?
        .wait_with_output()?;
    if !output.status.success() {
        bail!("run the bench: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("read what the bench found")
}

/// `cargo` in the workspace's root.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    // What `cargo run` says of xtask's own package would, to build scripts that look at it (ring's), be a
    // change: all that depends on them would be built again.
    let of_this_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_this_package)) {
        command.env_remove(name);
    }
    command
}

/// Where cargo puts what it builds.
pub fn target_directory() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A binary that was built with `profile`.
pub fn binary(profile: &str, name: &str) -> PathBuf {
    let directory = if profile == "dev" { "debug" } else { profile };
    target_directory().join(directory).join(name)
}

/// Runs a command to its end.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("start {:?}", command.get_program()))
}

/// Builds everything there is to build, tests included, so that features are unified as in every other step.
pub fn build(profile: &str) -> Result<bool> {
    Ok(status(&mut cargo(&["build", "--workspace", "--all-targets", "--profile", profile]))?.success())
}
