//! PyTorch, transformers and peft as oracles: finds or makes their Python, records what they say, and holds
//! our code against it.
//!
//! The recordings in `worker/llm/tests/golden` are all that tests and CI need; this is for whoever changes
//! the engine, or doubts them. It must never be a part of `.ci/run`: PyTorch is some gigabytes to fetch.

use crate::cargo::{self, PROFILE};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// Names a Python that has what `oracle/requirements.txt` lists.
const PYTHON_VARIABLE: &str = "MUSTER_ORACLE_PYTHON";
/// Names the directory of recordings for the tests that read them.
const GOLDEN_VARIABLE: &str = "MUSTER_GOLDEN";
const REQUIREMENTS: &str = "oracle/requirements.txt";
/// What those are called in Python: that all can be imported is checked of any environment.
const IMPORTS: &str =
    "import datasets, datatrove.utils.dataset, megatron.core, numpy, peft, safetensors, torch, transformers";
const GOLDEN: &str = "worker/llm/tests/golden";
/// The parts of a recording.
const PARTS: [&str; 3] = ["models", "adapters", "dpo"];
/// What the live run draws its checkpoints from: others than those recorded.
const LIVE_SEED: &str = "2";
/// The test programs of worker/llm that hold it against recordings; those that there are.
const TESTS: &str = "oracle*";
/// The program of worker/llm that saves checkpoints and adapters, which transformers and peft then open.
const EXPORT: &str = "oracle_export";

/// A Python with PyTorch, transformers and peft: the one that `MUSTER_ORACLE_PYTHON` names, else one in the
/// target directory, which is made the first time. Progress goes to standard error.
///
/// # Errors
/// When it has not what it needs, or can't be made: no Python, or no network.
pub fn python() -> Result<PathBuf> {
    if let Some(python) = env::var_os(PYTHON_VARIABLE).filter(|value| !value.is_empty()) {
        let python = PathBuf::from(python);
        imports(&python).with_context(|| format!("use the Python that {PYTHON_VARIABLE} names"))?;
        return Ok(python);
    }
    let home = cargo::target_directory().join("oracle");
    let python = home.join("bin/python");
    let wanted = fs::read_to_string(cargo::root().join(REQUIREMENTS))
        .with_context(|| format!("read {REQUIREMENTS}"))?;
    // Written last, so it is there only when everything is.
    let stamp = home.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) && python.exists() {
        return Ok(python);
    }
    eprintln!(
        "making a Python environment in {}: PyTorch is some gigabytes to fetch, and this may take many minutes",
        home.display()
    );
    make(&home, &python).with_context(|| {
        format!("make a Python environment for the oracles (or set {PYTHON_VARIABLE} to a Python that has what {REQUIREMENTS} lists)")
    })?;
    fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))?;
    Ok(python)
}

fn make(home: &Path, python: &Path) -> Result<()> {
    quiet(Command::new("python3").args(["-m", "venv"]).arg(home))
        .context("make a virtual environment: that needs python3 with its modules venv and ensurepip, on Debian and Ubuntu python3-venv")?;
    quiet(Command::new(python).current_dir(cargo::root()).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "-r",
        REQUIREMENTS,
    ]))
    .with_context(|| {
        format!("install what {REQUIREMENTS} lists: that needs a network and a package index that pip knows")
    })?;
    imports(python)
}

/// Checks that a Python has what the scripts need.
fn imports(python: &Path) -> Result<()> {
    let found = Command::new(python)
        .args(["-c", IMPORTS])
        .output()
        .with_context(|| format!("start {}", python.display()))?;
    if !found.status.success() {
        let said = String::from_utf8_lossy(&found.stderr);
        bail!(
            "{} lacks what {REQUIREMENTS} lists: {}",
            python.display(),
            said.lines().last().unwrap_or_default()
        );
    }
    Ok(())
}

/// Runs a program to its good end, with what it prints on standard error.
fn quiet(command: &mut Command) -> Result<()> {
    let status = cargo::status(command.stdout(Stdio::from(std::io::stderr())))?;
    if !status.success() {
        bail!("{:?} ended with {status}", command.get_program());
    }
    Ok(())
}

/// Records anew what is in the tree, or (without `record`) checks both ways on fresh checkpoints: what Python
/// wrote, our tests read; what our code wrote, Python reads.
pub fn oracle(record_anew: bool) -> Result<bool> {
    let python = python()?;
    if record_anew {
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

/// A script of ours, which uses nothing but what is on this machine.
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

/// The packages whose features are unified as in everything else that is built for work on the engine.
pub const PACKAGES: [&str; 6] = ["-p", "muster-llm", "-p", "muster-worker", "-p", "muster"];

fn tests(golden: &Path) -> Result<bool> {
    let mut command = cargo::cargo(&["test", "--profile", PROFILE]);
    command.args(PACKAGES).args(["--test", TESTS]).env(GOLDEN_VARIABLE, golden);
    Ok(cargo::status(&mut command)?.success())
}

/// Lets a script hold what our code saved against what it computes itself.
fn check(python: &Path, name: &str, ours: &Path) -> Result<bool> {
    Ok(cargo::status(script(python, name).arg("check").arg(ours))?.success())
}

fn export(example: &str, paths: &[&Path]) -> Result<bool> {
    let mut build = cargo::cargo(&["build", "--profile", PROFILE]);
    if !cargo::status(build.args(PACKAGES).args(["--example", example]))?.success() {
        bail!("build {example}, which saves what Python opens");
    }
    let program = cargo::target_directory().join(PROFILE).join("examples").join(example);
    Ok(cargo::status(Command::new(program).current_dir(cargo::root()).args(paths))?.success())
}
