//! PyTorch, transformers and peft as oracles of the engine: logits, gradients, steps, adapters.

use super::python;
use crate::cargo::{self, ENGINE_PACKAGES, PROFILE};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Names the directory of recordings for the tests that read them.
const GOLDEN_VARIABLE: &str = "MUSTER_GOLDEN";
const GOLDEN: &str = "worker/llm/tests/golden";
/// The parts of a recording.
const PARTS: [&str; 3] = ["models", "adapters", "dpo"];
/// The seed of fresh checkpoints; the recorded ones have another.
const LIVE_SEED: &str = "2";
/// The test programs of worker/llm that compare with recordings.
const TESTS: &str = "oracle*";
/// The example of worker/llm that saves checkpoints and adapters for transformers and peft to open.
const EXPORT: &str = "oracle_export";

/// With `renew`, replaces the recordings in the tree. Otherwise checks both ways on fresh checkpoints: our
/// tests read what Python wrote, and Python reads what our code wrote.
pub fn run(renew: bool) -> Result<bool> {
    let python = python::find()?;
    if renew {
        let golden = cargo::root().join(GOLDEN);
        record(&python, &golden, "1")?;
        println!("recorded {}", golden.display());
        return Ok(true);
    }
    let live = cargo::target_directory().join("oracle-live");
    let (theirs, ours) = (live.join("theirs"), live.join("ours"));
    record(&python, &theirs, LIVE_SEED)?;
    let mut results = vec![("our tests on fresh recordings", tests(&theirs)?)];
    if ours.exists() {
        fs::remove_dir_all(&ours).with_context(|| format!("remove {}", ours.display()))?;
    }
    let saved = export(EXPORT, &[&theirs, &ours])?;
    results.push(("our code saves checkpoints and adapters", saved));
    if saved {
        results
            .push(("transformers opens our checkpoints", check(&python, "models.py", &ours.join("models"))?));
        results.push(("peft opens our adapters", check(&python, "adapters.py", &ours.join("adapters"))?));
    }
    for (name, passed) in &results {
        println!("{name}: {}", if *passed { "passed" } else { "FAILED" });
    }
    Ok(results.iter().all(|(_, passed)| *passed))
}

/// One of our scripts, without network.
fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command
        .current_dir(cargo::root())
        .arg(format!("oracle/{name}"))
        .env("HF_HUB_OFFLINE", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn record(python: &Path, golden: &Path, seed: &str) -> Result<()> {
    for part in PARTS.map(|part| golden.join(part)) {
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
        }
    }
    for name in ["models.py", "adapters.py"] {
        if !cargo::status(script(python, name).arg("record").arg("--out").arg(golden).args(["--seed", seed]))?
            .success()
        {
            bail!("oracle/{name} could not record");
        }
    }
    Ok(())
}

fn tests(golden: &Path) -> Result<bool> {
    let mut command = cargo::cargo(&["test", "--profile", PROFILE]);
    command.args(ENGINE_PACKAGES).args(["--test", TESTS]).env(GOLDEN_VARIABLE, golden);
    Ok(cargo::status(&mut command)?.success())
}

/// Runs a script that compares what our code saved with what it computes itself.
fn check(python: &Path, name: &str, ours: &Path) -> Result<bool> {
    Ok(cargo::status(script(python, name).arg("check").arg(ours))?.success())
}

fn export(example: &str, paths: &[&Path]) -> Result<bool> {
    let mut build = cargo::cargo(&["build", "--profile", PROFILE]);
    if !cargo::status(build.args(ENGINE_PACKAGES).args(["--example", example]))?.success() {
        bail!("build {example}, which saves what Python opens");
    }
    let program = cargo::target_directory().join(PROFILE).join("examples").join(example);
    Ok(cargo::status(Command::new(program).current_dir(cargo::root()).args(paths))?.success())
}
