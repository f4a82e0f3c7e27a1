//! `cargo xtask bench train`: tokens per second of training, Muster against PyTorch, in one run on one
//! machine.
//!
//! The two sides take turns, so that other load on the machine hits both, and are compared pair by pair.
//! Standard output must be one JSON object and nothing else. [`super::gpu`] measures a GPU, if there is one.

use super::gpu;
use super::side::{OURS, Side, Turn, median, number, operations};
use crate::cargo::{self, ENGINE_PACKAGES, PROFILE};
use crate::oracle;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

const PLAN: &str = "oracle/bench_train.json";
/// Undisturbed pairs of turns wanted for each size, and the most pairs that are made to get them.
const REPEATS: usize = 5;
const REPEATS_MAX: usize = 9;
/// With fewer undisturbed pairs all pairs count, and the result is marked as disturbed.
const UNDISTURBED_MIN: usize = 3;
/// A turn is disturbed if other processes used more than this fraction of the processors' time.
const OTHERS_MAX: f64 = 0.1;
/// Rows of the table that shows where time goes.
const ROWS: usize = 14;

/// Describes the machine.
fn machine() -> Value {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({"processor": name, "cores": cores, "avx512f": processors.contains(" avx512f ")})
}

/// The load average over the last minute.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Where a step's time goes, largest part first.
fn table(name: &str, profile: &Value) -> Result<String> {
    let (steps, total) = (number(profile, "steps")?, number(profile, "seconds")?);
    let mut parts: Vec<(&str, f64)> = profile["parts"]
        .as_object()
        .context("find the parts of a profile")?
        .iter()
        .map(|(part, seconds)| (part.as_str(), seconds.as_f64().unwrap_or_default()))
        .collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut text = format!("{name}: {:.1} ms per step\n", total / steps * 1e3);
    for (part, seconds) in parts.iter().take(ROWS) {
        writeln!(text, "  {:8.2} ms {:5.1} %  {part}", seconds / steps * 1e3, seconds / total * 100.0)?;
    }
    Ok(text)
}

/// The result for one size.
struct SizeResult {
    ratio: f64,
    memory: f64,
    raw: Value,
}

fn measure(name: &str, plan: &Value, python: &std::path::Path) -> Result<SizeResult> {
    let size = &plan["sizes"][name];
    let peer = |verb: &str| {
        let mut command = Command::new(python);
        command.args(["oracle/bench_train.py", verb, name]).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    let picked = peer("pick").current_dir(cargo::root()).output().context("start the peer")?;
    let picked: Value = serde_json::from_slice(&picked.stdout).with_context(|| {
        format!("read which AdamW is fastest: {}", String::from_utf8_lossy(&picked.stderr))
    })?;
    let adamw = picked["adamw"].as_str().context("read which AdamW is fastest")?;
    let mut theirs = Side::start(peer("serve").args(["--adamw", adamw]))?;
    let ours = cargo::target_directory().join(PROFILE).join("examples").join(OURS);
    let threads = plan["threads"].to_string();
    let mut ours = Side::start(Command::new(ours).args(["serve", name]).env("RAYON_NUM_THREADS", threads))?;
    if theirs.about["parameters"] != ours.about["parameters"] {
        bail!("the two models of size {name} differ: {} and {}", theirs.about, ours.about);
    }
    let steps = size["steps"].as_u64().with_context(|| format!("find the steps of size {name} in {PLAN}"))?;
    for side in [&mut theirs, &mut ours] {
        side.turn(plan["warmup_steps"].as_u64().unwrap_or(1))?;
    }
    let (mut pairs, mut peaks) = (Vec::new(), [0.0f64; 2]);
    let calm = |pairs: &[[Turn; 2]]| {
        pairs.iter().filter(|pair| pair.iter().all(|turn| turn.others <= OTHERS_MAX)).count()
    };
    while calm(&pairs) < REPEATS && pairs.len() < REPEATS_MAX {
        // The sides take turns in going first.
        let pair = if pairs.len().is_multiple_of(2) {
            let first = theirs.turn(steps)?;
            [first, ours.turn(steps)?]
        } else {
            let first = ours.turn(steps)?;
            [theirs.turn(steps)?, first]
        };
        for (peak, turn) in peaks.iter_mut().zip(&pair) {
            *peak = peak.max(turn.peak_bytes);
        }
        let [torch, muster] = &pair;
        eprintln!(
            "{name} {}: torch {:.0} tokens/s, ours {:.0}, {:.2}x (others had {:.0} and {:.0} % of the processors)",
            pairs.len() + 1,
            torch.rate,
            muster.rate,
            muster.rate / torch.rate,
            torch.others * 100.0,
            muster.others * 100.0
        );
        pairs.push(pair);
    }
    let disturbed = calm(&pairs) < UNDISTURBED_MIN;
    if disturbed {
        eprintln!(
            "{name}: other processes disturbed this run, and PyTorch's threads suffer more from that than ours: do not quote it"
        );
    } else {
        pairs.retain(|pair| pair.iter().all(|turn| turn.others <= OTHERS_MAX));
    }
    let rates = [0, 1].map(|side| pairs.iter().map(|pair| pair[side].rate).collect::<Vec<_>>());
    let of_processors =
        [0, 1].map(|side| median(pairs.iter().map(|pair| pair[side].rate_of_processors).collect()));
    let ratios: Vec<f64> = pairs.iter().map(|[torch, muster]| muster.rate / torch.rate).collect();
    let others: Vec<f64> = pairs.iter().flatten().map(|turn| turn.others).collect();
    let gemm = [number(&theirs.ask("gemm")?, "gflops")?, number(&ours.ask("gemm")?, "gflops")?];
    let profiles =
        [theirs.ask(&format!("profile {}", steps.min(3)))?, ours.ask(&format!("profile {}", steps.min(3)))?];
    eprint!(
        "{}{}",
        table(&format!("{name}, torch"), &profiles[0])?,
        table(&format!("{name}, ours"), &profiles[1])?
    );
    let medians = rates.clone().map(median);
    let tokens = number(size, "batch")? * number(size, "context")?;
    let achieved = medians.map(|rate| operations(size).map(|operations| rate / tokens * operations / 1e9));
    let [torch_achieved, achieved] = achieved;
    let (torch_achieved, achieved) = (torch_achieved?, achieved?);
    let peak = gemm[0].max(gemm[1]);
    eprintln!(
        "{name}: roofline: gemm {peak:.0} GFLOP/s; torch {torch_achieved:.1} ({:.0} %), ours {achieved:.1} ({:.0} %)",
        torch_achieved / peak * 100.0,
        achieved / peak * 100.0
    );
    // Of our step, the part that is products of matrices, where our side counts it.
    let gemm_time = number(&profiles[1], "gemm_seconds")
        .and_then(|gemm| Ok(gemm / number(&profiles[1], "seconds")?))
        .ok();
    if let Some(part) = gemm_time {
        eprintln!("{name}: ours spends {:.0} % of a step in products of matrices", part * 100.0);
    }
    let raw = json!({
        "parameters": ours.about["parameters"], "peer": theirs.about["peer"], "adamw": adamw, "steps_per_turn": steps,
        "torch_tokens_per_second": medians[0], "muster_tokens_per_second": medians[1],
        "torch_tokens_per_processor_second": of_processors[0], "muster_tokens_per_processor_second": of_processors[1],
        "torch_all": rates[0], "muster_all": rates[1], "ratios": ratios, "others": others, "disturbed": disturbed,
        "torch_peak_bytes": peaks[0], "muster_peak_bytes": peaks[1],
        "torch_gemm_gflops": gemm[0], "muster_gemm_gflops": gemm[1],
        "torch_gflops": torch_achieved, "muster_gflops": achieved, "gemm_fraction": achieved / peak, "torch_gemm_fraction": torch_achieved / peak,
        "muster_gemm_time_fraction": gemm_time,
        "torch_profile": profiles[0], "muster_profile": profiles[1],
    });
    Ok(SizeResult { ratio: median(ratios), memory: peaks[1] / peaks[0], raw })
}

/// Measures both sizes. `rest` may hold `--no-build`.
pub fn bench(json: bool, rest: &[String]) -> Result<bool> {
    if let Some(other) = rest.iter().find(|argument| *argument != "--no-build") {
        bail!("use {other:?}: `bench train` takes --no-build only");
    }
    let python = oracle::python()?;
    if rest.is_empty() {
        let mut command = cargo::cargo(&["build", "--profile", PROFILE]);
        if !cargo::status(command.args(ENGINE_PACKAGES).args(["--example", OURS]))?.success() {
            bail!("build our side of the bench");
        }
    }
    let plan: Value =
        serde_json::from_slice(&fs::read(cargo::root().join(PLAN)).with_context(|| format!("read {PLAN}"))?)
            .with_context(|| format!("read {PLAN} as JSON"))?;
    let load_before = load();
    let small = measure("small", &plan, &python)?;
    let large = measure("large", &plan, &python)?;
    let gpu = gpu::measure(&plan, &python, rest.is_empty());
    let memory = small.memory.max(large.memory);
    eprintln!(
        "ours over torch: small {:.2}x, large {:.2}x; memory {memory:.2}x at worst",
        small.ratio, large.ratio
    );
    let mut result = json!({
        "bench": "train",
        "small_vs_torch": small.ratio,
        "large_vs_torch": large.ratio,
        "gemm_fraction": large.raw["gemm_fraction"],
        "memory_vs_torch": memory,
        "small_memory_vs_torch": small.memory,
        "large_memory_vs_torch": large.memory,
        "threads": plan["threads"], "disturbed": small.raw["disturbed"] == true || large.raw["disturbed"] == true,
        "machine": machine(), "load_before": load_before, "load_after": load(),
        "small": small.raw, "large": large.raw,
    });
    if let Some(result) = result.as_object_mut() {
        result.extend(gpu);
    }
    if json {
        println!("{result}");
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_the_greatest_first() {
        let profile = json!({"steps": 2, "seconds": 0.04, "parts": {"norm": 0.01, "gemm": 0.03}});
        assert_eq!(
            table("x", &profile).expect("is a profile"),
            "x: 20.0 ms per step\n     15.00 ms  75.0 %  gemm\n      5.00 ms  25.0 %  norm\n"
        );
    }
}
