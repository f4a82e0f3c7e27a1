//! Oracles of data sets: megatron-core and datatrove open our shards, datatrove writes the same ones, and
//! Hugging Face's libraries tokenize the same texts and conversations.

use super::python;
use crate::cargo::{self, ENGINE_PACKAGES, PROFILE};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The example of worker/data that writes shards of every kind.
const WRITER: &str = "write_shards";
/// Recordings of Hugging Face's libraries, for the tests of worker/data.
const GOLDEN: &str = "worker/data/tests/golden";

/// Names the recordings for the tests that read them.
const GOLDEN_VARIABLE: &str = "MUSTER_GOLDEN_DATA";

/// Writes shards into `live` and lets others read them; records the libraries' results into `live` and runs
/// our tests on them. Returns what passed.
fn checks(python: &Path, live: &Path) -> Result<Vec<(&'static str, bool)>> {
    let (shards, said) = (live.join("shards"), live.join("data"));
    for directory in [&shards, &said] {
        if directory.exists() {
            fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
        }
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    let mut build = cargo::cargo(&["build", "--profile", PROFILE]);
    if !cargo::status(build.args(ENGINE_PACKAGES).args(["--example", WRITER]))?.success() {
        bail!("build the program that writes shards");
    }
    let written =
        cargo::status(Command::new(cargo::binary(PROFILE, "examples").join(WRITER)).arg(&shards))?.success();
    let read = written && cargo::status(script(python, "read_shards.py").arg(&shards))?.success();
    let rewritten = written && cargo::status(script(python, "datatrove_shards.py").arg(&shards))?.success();
    let mut tests = cargo::cargo(&["test", "--profile", PROFILE]);
    tests.args(ENGINE_PACKAGES).args(["--lib", "--", "tokenizer::golden"]).env(GOLDEN_VARIABLE, &said);
    let agreed = record(python, &said)? && cargo::status(&mut tests)?.success();
    Ok(vec![
        ("megatron-core opens our shards", read),
        ("datatrove reads our tokens, and writes the same files", rewritten),
        ("our tests on fresh recordings of texts and conversations", agreed),
    ])
}

/// With `renew`, replaces the recordings in the tree. Otherwise checks both ways: our tests read what Python
/// recorded, and others read what we write.
pub fn run(renew: bool) -> Result<bool> {
    let python = python::find()?;
    if renew {
        let golden = cargo::root().join(GOLDEN);
        let recorded = record(&python, &golden)?;
        println!("recorded {}", golden.display());
        return Ok(recorded);
    }
    let results = checks(&python, &cargo::target_directory().join("oracle-live"))?;
    for (name, passed) in &results {
        println!("{name}: {}", if *passed { "passed" } else { "FAILED" });
    }
    Ok(results.iter().all(|(_, passed)| *passed))
}

fn record(python: &Path, out: &Path) -> Result<bool> {
    Ok(cargo::status(script(python, "record.py").arg(out))?.success())
}

/// One of our scripts, without network; its output goes to standard error.
fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command
        .current_dir(cargo::root())
        .arg(format!("oracle/data/{name}"))
        .env("HF_HUB_OFFLINE", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdout(Stdio::from(std::io::stderr()));
    command
}
