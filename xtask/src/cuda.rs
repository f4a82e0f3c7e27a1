//! The feature `cuda`: compiled if there is a toolkit or one can be installed; otherwise a message says so.

use crate::cargo::{self, PROFILE};
use anyhow::{Context, Result};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The device file of the first GPU.
const GPU: &str = "/dev/nvidia0";

/// Compiles the library with its GPU tests, and runs them if there is a GPU. Returns `false` if it does not
/// compile or a test fails.
pub fn cuda() -> Result<bool> {
    let Some(environment) = toolkit()? else {
        println!(
            "cuda: NOT compiled: there is no CUDA_HOME, and deploy/cuda/toolkit.sh could make no toolkit here (see above)"
        );
        return Ok(true);
    };
    let target = target();
    let mut command = cargo::cargo(&[
        "test",
        "-p",
        "muster-llm",
        "--features",
        "cuda",
        "--profile",
        PROFILE,
        "--test",
        "cuda",
    ]);
    command.env("CARGO_TARGET_DIR", target).envs(environment);
    // Without a driver a program that is linked to its library does not start.
    let gpu = Path::new(GPU).exists();
    command.args(if gpu { ["--", "--nocapture"].as_slice() } else { ["--no-run"].as_slice() });
    let passed = cargo::status(&mut command)?.success();
    match (passed, gpu) {
        (true, true) => println!("cuda: compiled, and its tests passed"),
        (true, false) => println!("cuda: compiled; its tests were NOT run, since there is no GPU ({GPU})"),
        (false, _) => println!("cuda: FAILED"),
    }
    Ok(passed)
}

/// The target folder for builds with the feature. In a shared folder, candle would be compiled again at each
/// change of features.
pub fn target() -> PathBuf {
    cargo::target_directory().join("cuda")
}

/// The environment variables of a toolkit; `None` if there is no toolkit.
pub fn toolkit() -> Result<Option<Vec<(String, String)>>> {
    if env::var_os("CUDA_HOME").is_some() {
        return Ok(Some(Vec::new()));
    }
    let (script, folder): (PathBuf, PathBuf) =
        (cargo::root().join("deploy/cuda/toolkit.sh"), cargo::target_directory().join("cuda-toolkit"));
    eprintln!("making a CUDA toolkit in {} (about 2.5 GB, once)", folder.display());
    let made = Command::new("bash")
        .arg("-c")
        .arg("eval \"$(\"$0\" \"$1\")\" && env -0")
        .arg(script)
        .arg(folder)
        .stderr(Stdio::inherit())
        .output();
    let made = made.context("start deploy/cuda/toolkit.sh")?;
    if !made.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&made.stdout);
    let wanted = [
        "CUDA_HOME",
        "CUDA_PATH",
        "CUDA_TOOLKIT_ROOT_DIR",
        "PATH",
        "CUDA_COMPUTE_CAP",
        "LIBRARY_PATH",
        "LD_LIBRARY_PATH",
        "RUSTFLAGS",
    ];
    let pairs =
        text.split('\0').filter_map(|line| line.split_once('=')).filter(|(name, _)| wanted.contains(name));
    Ok(Some(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
}
