//! `cargo xtask bench train`: tokens per second of training, ours and PyTorch's, in turns, in one run on one
//! machine.
//!
//! Both sides are programs that answer the same lines (see `oracle/bench_train.py`); this one lets them take
//! turns, so that whatever else the machine does falls on both, and compares pair by pair. It must print
//! nothing but one JSON object on standard output. What a GPU does, where there is one, is measured by
//! [`crate::bench_gpu`].

use crate::cargo::{self, PROFILE};
use crate::{bench_gpu, oracle};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const PLAN: &str = "oracle/bench_train.json";
/// Our side, an example of worker/llm.
pub const OURS: &str = "bench_train";
/// Pairs of turns at each size that are wanted, and how many are made at most to have as many that nothing
/// disturbed.
const REPEATS: usize = 5;
const REPEATS_MAX: usize = 9;
/// Fewer undisturbed pairs say nothing: then all count, and the result says that they were disturbed.
const UNDISTURBED_MIN: usize = 3;
/// A turn is disturbed when other processes took more of the processors' time than this part.
const OTHERS_MAX: f64 = 0.1;
/// Linux tells processor times in these.
const TICKS_PER_SECOND: f64 = 100.0;
/// Rows of a table of where time goes.
const ROWS: usize = 14;

/// One side: a program that answers.
pub struct Side {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it says of itself at the start.
    pub about: Value,
}

impl Side {
    /// Starts it, and waits for what it says of itself.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child =
            command.current_dir(cargo::root()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let child_ref =
            child.as_mut().map_err(|error| anyhow::anyhow!("start {:?}: {error}", command.get_program()))?;
        let input = child_ref.stdin.take().context("write to a side")?;
        let output = BufReader::new(child_ref.stdout.take().context("read from a side")?);
        let mut side = Self { child: child?, input, output, about: Value::Null };
        side.about = side.answer()?;
        Ok(side)
    }

    fn ask(&mut self, line: &str) -> Result<Value> {
        writeln!(self.input, "{line}")
            .and_then(|()| self.input.flush())
            .with_context(|| format!("ask a side to {line}"))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("a side of the bench ended early (see above)");
        }
        serde_json::from_str(&line).with_context(|| format!("read a side's answer {line:?}"))
    }

    /// One turn of `steps` steps.
    pub fn turn(&mut self, steps: u64) -> Result<Turn> {
        let before = (Processors::now(), self.ticks());
        let answer = self.ask(&format!("run {steps}"))?;
        let (after, own) = (Processors::now(), self.ticks().saturating_sub(before.1));
        let others = (after.busy - before.0.busy).saturating_sub(own) as f64
            / (after.all - before.0.all).max(1) as f64;
        let rate = number(&answer, "tokens")? / number(&answer, "seconds")?;
        let rate_of_processors = number(&answer, "tokens")? / (own.max(1) as f64 / TICKS_PER_SECOND);
        Ok(Turn { rate, rate_of_processors, peak_bytes: number(&answer, "peak_bytes")?, others })
    }

    /// Processor time that the side has had so far, in ticks.
    fn ticks(&self) -> u64 {
        let line = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The name of the program, in parentheses, may hold anything; user and system time are fields 14 and
        // 15.
        let fields = line.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    }
}

/// What one turn gave.
pub struct Turn {
    /// Tokens per second.
    pub rate: f64,
    /// Tokens per second of processor time, waiting in a spin included: it depends less on what else the
    /// machine does.
    rate_of_processors: f64,
    /// The most memory that it had.
    pub peak_bytes: f64,
    /// The part of all processors' time that neither side had, and that was not idle.
    others: f64,
}

/// Ticks of all processors since the machine started.
#[derive(Default)]
struct Processors {
    busy: u64,
    all: u64,
}

impl Processors {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks: Vec<u64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|t| t.parse().ok())
            .collect();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let all: u64 = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Self { busy: all - idle, all }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // It is ours, and has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number of an object.
pub fn number(value: &Value, key: &str) -> Result<f64> {
    value[key].as_f64().with_context(|| format!("find the number {key} in {value}"))
}

/// The middle one, or the mean of the two in the middle.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 { numbers[middle] } else { (numbers[middle - 1] + numbers[middle]) / 2.0 }
}

/// Operations of one step on matrices, forward and backward (twice the forward's): each weight of a matrix
/// once per token, the head's too, and the products of attention over the causal half.
pub fn operations(size: &Value) -> Result<f64> {
    let model = &size["model"];
    let of = |key: &str| number(model, key);
    let (hidden, heads, batch, context) =
        (of("hidden_size")?, of("num_attention_heads")?, number(size, "batch")?, number(size, "context")?);
    let key_value = hidden / heads * of("num_key_value_heads")?;
    let layer = 2.0 * hidden * (hidden + key_value) + 3.0 * hidden * of("intermediate_size")?;
    let weights = of("num_hidden_layers")? * layer + hidden * of("vocab_size")?;
    // q k' and p v, each 2 operations per pair of positions and number of a head's width; half of the pairs.
    let attention = of("num_hidden_layers")? * 2.0 * 2.0 * batch * context * (context + 1.0) / 2.0 * hidden;
    Ok(3.0 * (2.0 * weights * batch * context + attention))
}

/// The machine, in words.
fn machine() -> Value {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({"processor": name, "cores": cores, "avx512f": processors.contains(" avx512f ")})
}

/// Runnable processes over the last minute: the bench of a busy machine says so.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Where a step's time goes, the greatest first.
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

/// What one size's run gave.
struct Measured {
    ratio: f64,
    memory: f64,
    raw: Value,
}

fn measure(name: &str, plan: &Value, python: &std::path::Path) -> Result<Measured> {
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
        // Who goes first changes, so that neither always follows the other.
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
    Ok(Measured { ratio: median(ratios), memory: peaks[1] / peaks[0], raw })
}

/// Measures both sizes. `rest` may hold `--no-build`.
pub fn bench(json: bool, rest: &[String]) -> Result<bool> {
    if let Some(other) = rest.iter().find(|argument| *argument != "--no-build") {
        bail!("use {other:?}: `bench train` takes --no-build only");
    }
    let python = oracle::python()?;
    if rest.is_empty() {
        let mut command = cargo::cargo(&["build", "--profile", PROFILE]);
        if !cargo::status(command.args(oracle::PACKAGES).args(["--example", OURS]))?.success() {
            bail!("build our side of the bench");
        }
    }
    let plan: Value =
        serde_json::from_slice(&fs::read(cargo::root().join(PLAN)).with_context(|| format!("read {PLAN}"))?)
            .with_context(|| format!("read {PLAN} as JSON"))?;
    let load_before = load();
    let small = measure("small", &plan, &python)?;
    let large = measure("large", &plan, &python)?;
    let gpu = bench_gpu::measure(&plan, &python, rest.is_empty());
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
    fn operations_agree_with_a_count_by_hand() {
        let model = json!({
            "vocab_size": 10, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1,
        });
        let size = json!({"model": model, "batch": 1, "context": 2});
        // q and o 16 each, k and v 8 each, three of 24, the head 40: 160 weights, 2 tokens. Attention: 3
        // pairs, 4 wide, two products.
        assert_eq!(
            operations(&size).expect("has all numbers"),
            3.0 * (2.0 * 160.0 * 2.0 + 2.0 * 2.0 * 3.0 * 4.0)
        );
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn a_table_shows_the_greatest_first() {
        let profile = json!({"steps": 2, "seconds": 0.04, "parts": {"norm": 0.01, "gemm": 0.03}});
        assert_eq!(
            table("x", &profile).expect("is a profile"),
            "x: 20.0 ms per step\n     15.00 ms  75.0 %  gemm\n      5.00 ms  25.0 %  norm\n"
        );
    }
}
