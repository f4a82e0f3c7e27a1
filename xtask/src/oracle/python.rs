//! The Python environment of the oracles.

use crate::cargo;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// Names a Python that has what `oracle/requirements.txt` lists.
const PYTHON_VARIABLE: &str = "MUSTER_ORACLE_PYTHON";
const REQUIREMENTS: &str = "oracle/requirements.txt";
/// Imports all of them, to check any environment.
const IMPORTS: &str =
    "import datasets, datatrove.utils.dataset, megatron.core, numpy, peft, safetensors, torch, transformers";

/// The Python that `MUSTER_ORACLE_PYTHON` names, else one in the target folder, which is made the first time.
/// Progress goes to standard error.
pub fn find() -> Result<PathBuf> {
    if let Some(python) = env::var_os(PYTHON_VARIABLE).filter(|value| !value.is_empty()) {
        let python = PathBuf::from(python);
        check_imports(&python).with_context(|| format!("use the Python that {PYTHON_VARIABLE} names"))?;
        return Ok(python);
    }
    let home = cargo::target_directory().join("oracle");
    let python = home.join("bin/python");
    let wanted = fs::read_to_string(cargo::root().join(REQUIREMENTS))
        .with_context(|| format!("read {REQUIREMENTS}"))?;
    // Written last, so it exists only if the environment is complete.
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
    check_imports(python)
}

/// Checks that a Python has what the scripts need.
fn check_imports(python: &Path) -> Result<()> {
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

/// Runs a program that must succeed; its output goes to standard error.
fn quiet(command: &mut Command) -> Result<()> {
    let status = cargo::status(command.stdout(Stdio::from(std::io::stderr())))?;
    if !status.success() {
        bail!("{:?} ended with {status}", command.get_program());
    }
    Ok(())
}
