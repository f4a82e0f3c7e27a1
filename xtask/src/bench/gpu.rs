//! The GPU half of `cargo xtask bench train`: tokens per second in bf16 and model FLOP/s utilisation (MFU).
//!
//! Both sides compute in bf16 with masters and moments in f32: PyTorch eager with autocast, its fused AdamW
//! and its own attention. If a GPU, the toolkit or a PyTorch with CUDA is missing, the result must say which.
//!
//! **Model FLOPs** of a step are those of [`operations`]: forward and twice that backward, `6 * matrix
//! weights * tokens` with the head's, and the causal half of attention's two products, `6 * layers * batch *
//! context * (context + 1) * hidden`. Recomputation does not count. MFU (Chowdhery et al. 2022) is model
//! FLOPs per second over the device's dense bf16 peak from its data sheet.

use super::side::{OURS, Side, median, number, operations};
use crate::cargo::{self, PROFILE};
use crate::cuda;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::Command;

/// The size that is measured.
const SIZE: &str = "gpu";
/// Pairs of turns.
const REPEATS: usize = 5;

/// Dense bf16 peaks in FLOP/s with sums in f32. The first entry whose name is a part of `nvidia-smi`'s
/// counts.
const PEAKS: [(&str, f64); 20] = [
    ("B200", 2250e12),
    ("H200 NVL", 835e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H800", 989e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("A40", 149.7e12),
    ("A30", 165e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("L4", 121e12),
    ("RTX A6000", 154.8e12),
    ("RTX 6000 Ada", 364e12),
    ("RTX 4090", 165.2e12),
    ("RTX 3090", 71e12),
];

fn peak(name: &str) -> Option<f64> {
    PEAKS.iter().find(|(part, _)| name.contains(part)).map(|(_, peak)| *peak)
}

/// The result, or the reason for having none.
type Measurement = Result<Map<String, Value>, String>;

/// The keys of the result. Without a GPU they are null, and `gpu_skipped` has the reason.
pub fn measure(plan: &Value, python: &Path, build: bool) -> Map<String, Value> {
    let found = compare(plan, python, build).unwrap_or_else(|error| Err(format!("failed: {error:#}")));
    found.unwrap_or_else(|reason| {
        eprintln!("gpu: NOT measured: {reason}");
        skipped(&reason)
    })
}

fn skipped(reason: &str) -> Map<String, Value> {
    let nothing =
        ["gpu_vs_torch", "gpu_mfu", "gpu_bf16_tokens_per_s"].map(|key| (key.to_owned(), Value::Null));
    nothing.into_iter().chain([("gpu_skipped".to_owned(), json!(reason))]).collect()
}

/// The name of the first GPU.
fn gpu() -> Result<String, String> {
    let listed = Command::new("nvidia-smi").args(["--query-gpu=name", "--format=csv,noheader"]).output();
    let listed = listed.map_err(|error| format!("nvidia-smi, which lists GPUs, does not start: {error}"))?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    match text.lines().next().map(str::trim) {
        Some(name) if listed.status.success() && !name.is_empty() => Ok(name.to_owned()),
        Some(_) | None => Err("nvidia-smi finds no GPU".to_owned()),
    }
}

fn compare(plan: &Value, python: &Path, build: bool) -> Result<Measurement> {
    let name = match gpu() {
        Ok(name) => name,
        Err(reason) => return Ok(Err(reason)),
    };
    let torch = Command::new(python)
        .args(["-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"])
        .status();
    if !torch.context("ask PyTorch for GPUs")?.success() {
        return Ok(Err(format!(
            "the peer's PyTorch sees no GPU (it may be built without CUDA), though there is {name}"
        )));
    }
    let Some(environment) = cuda::toolkit()? else {
        return Ok(Err(
            "there is no CUDA toolkit to compile the feature `cuda` with, and deploy/cuda/toolkit.sh could make none".to_owned()
        ));
    };
    if build {
        let mut command = cargo::cargo(&[
            "build",
            "-p",
            "muster-llm",
            "--features",
            "cuda",
            "--profile",
            PROFILE,
            "--example",
            OURS,
        ]);
        if !cargo::status(command.env("CARGO_TARGET_DIR", cuda::target()).envs(environment.clone()))?
            .success()
        {
            bail!("build our side with the feature `cuda`");
        }
    }
    let size = &plan["sizes"][SIZE];
    let mut peer = Command::new(python);
    peer.args(["oracle/bench_train.py", "serve", SIZE, "--adamw", "fused"])
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let mut theirs = Side::start(&mut peer)?;
    let program = cuda::target().join(PROFILE).join("examples").join(OURS);
    let mut ours = Side::start(Command::new(program).args(["serve", SIZE]).envs(environment))?;
    if theirs.about["parameters"] != ours.about["parameters"] {
        bail!("the two models of size {SIZE} differ: {} and {}", theirs.about, ours.about);
    }
    let steps = size["steps"].as_u64().with_context(|| format!("find the steps of size {SIZE}"))?;
    for side in [&mut theirs, &mut ours] {
        side.turn(plan["warmup_steps"].as_u64().unwrap_or(1))?;
    }
    let (mut rates, mut peaks) = ([Vec::new(), Vec::new()], [0.0f64; 2]);
    for pair in 0..REPEATS {
        let first = usize::from(!pair.is_multiple_of(2));
        for side in [first, 1 - first] {
            let turn = if side == 0 { theirs.turn(steps)? } else { ours.turn(steps)? };
            rates[side].push(turn.rate);
            peaks[side] = peaks[side].max(turn.peak_bytes);
        }
        eprintln!("gpu {}: torch {:.0} tokens/s, ours {:.0}", pair + 1, rates[0][pair], rates[1][pair]);
    }
    let ratio = median(rates[0].iter().zip(&rates[1]).map(|(torch, muster)| muster / torch).collect());
    let medians = rates.clone().map(median);
    let per_token = operations(size)? / (number(size, "batch")? * number(size, "context")?);
    let peak = peak(&name);
    let utilisation = medians.map(|rate| peak.map(|peak| rate * per_token / peak));
    let reason = peak
        .is_none()
        .then(|| format!("the peak of {name:?} is not known: see PEAKS in xtask/src/bench/gpu.rs"));
    eprintln!(
        "gpu: {name}: ours over torch {ratio:.2}x; MFU torch {:?}, ours {:?}",
        utilisation[0], utilisation[1]
    );
    let result = json!({
        "gpu_vs_torch": ratio, "gpu_mfu": utilisation[1], "gpu_bf16_tokens_per_s": medians[1], "gpu_skipped": null,
        "gpu_mfu_missing": reason, "gpu_torch_mfu": utilisation[0], "gpu_torch_bf16_tokens_per_s": medians[0],
        "gpu": {
            "name": name, "peak_flops": peak, "model_flops_per_token": per_token, "parameters": ours.about["parameters"],
            "peer": theirs.about["peer"], "torch_all": rates[0], "muster_all": rates[1],
            "torch_peak_bytes": peaks[0], "muster_held_bytes": peaks[1],
        },
    });
    match result {
        Value::Object(result) => Ok(Ok(result)),
        other => bail!("{other} is no object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_says_why() {
        let keys = Value::Object(skipped("nvidia-smi finds no GPU"));
        let expected = json!({"gpu_vs_torch": null, "gpu_mfu": null, "gpu_bf16_tokens_per_s": null, "gpu_skipped": "nvidia-smi finds no GPU"});
        assert_eq!(keys, expected);
    }

    #[test]
    fn devices_have_the_peaks_of_their_data_sheets() {
        let table = [
            ("NVIDIA H100 80GB HBM3", Some(989e12)),
            ("NVIDIA H100 PCIe", Some(756e12)),
            ("NVIDIA H200", Some(989e12)),
            ("NVIDIA A100-SXM4-80GB", Some(312e12)),
            ("NVIDIA A10G", Some(70e12)),
            ("NVIDIA L40S", Some(362e12)),
            ("NVIDIA L4", Some(121e12)),
            ("Tesla V100-SXM2-16GB", None),
        ];
        for (name, expected) in table {
            assert_eq!(peak(name), expected, "{name}");
        }
    }
}
