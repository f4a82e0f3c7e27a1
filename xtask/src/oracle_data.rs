//! Other programs as oracles of data sets: NVIDIA's reader and datatrove open our shards, datatrove writes
//! the same ones, and Hugging Face's libraries say what texts and conversations give.

use crate::cargo::{self, PROFILE};
use crate::oracle::{self, PACKAGES};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The program of worker/llm that writes shards of every kind.
const WRITER: &str = "write_shards";
/// What Hugging Face's libraries said, for the tests of worker/llm.
const GOLDEN: &str = "worker/data/tests/golden";

/// Names the recordings for the tests that read them.
const GOLDEN_VARIABLE: &str = "MUSTER_GOLDEN_DATA";

/// Writes shards into `live` and has them read; records what the libraries say into `live`, and holds our
/// tests against it. What passed.
fn checks(python: &Path, live: &Path) -> Result<Vec<(&'static str, bool)>> {
    let (shards, said) = (live.join("shards"), live.join("data"));
    for directory in [&shards, &said] {
        if directory.exists() {
            fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
        }
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    let mut build = cargo::cargo(&["build", "--profile", PROFILE]);
    if !cargo::status(build.args(PACKAGES).args(["--example", WRITER]))?.success() {
        bail!("build the program that writes shards");
    }
    let written =
        cargo::status(Command::new(cargo::binary(PROFILE, "examples").join(WRITER)).arg(&shards))?.success();
    let read = written && cargo::status(script(python, "read_shards.py").arg(&shards))?.success();
    let rewritten = written && cargo::status(script(python, "datatrove_shards.py").arg(&shards))?.success();
    let mut tests = cargo::cargo(&["test", "--profile", PROFILE]);
    tests.args(PACKAGES).args(["--lib", "--", "tokenizer::golden"]).env(GOLDEN_VARIABLE, &said);
    let agreed = record(python, &said)? && cargo::status(&mut tests)?.success();
    Ok(vec![
        ("megatron-core opens our shards", read),
        ("datatrove reads our tokens, and writes the same files", rewritten),
        ("our tests on fresh recordings of texts and conversations", agreed),
    ])
}

/// Records anew what is in the tree, or (without `record_anew`) checks both ways: what Python says, our tests
/// read; what we write, others read.
pub fn oracle(record_anew: bool) -> Result<bool> {
    let python = oracle::python()?;
    if record_anew {
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

/// A script of ours, which uses nothing but what is on this machine; what it prints goes to standard error.
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
