//! One side of a comparison: a program that trains when it is told to, and what its answers mean.
//!
//! Both sides answer the same lines (see `oracle/bench_train.py`).

use crate::cargo;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Our side: an example of worker/llm.
pub const OURS: &str = "bench_train";
/// The unit of processor times in `/proc`.
const TICKS_PER_SECOND: f64 = 100.0;

/// A program that answers lines with JSON.
pub struct Side {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Its first line, which describes it.
    pub about: Value,
}

impl Side {
    /// Starts it and reads its first line.
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

    pub fn ask(&mut self, line: &str) -> Result<Value> {
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

    /// Processor time that the program has used, in ticks.
    fn ticks(&self) -> u64 {
        let line = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The program's name, in parentheses, may contain anything. User and system time are fields 14 and
        // 15.
        let fields = line.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    }
}

/// The result of one turn.
pub struct Turn {
    /// Tokens per second.
    pub rate: f64,
    /// Tokens per second of processor time, spinning included: less sensitive to other load on the machine.
    pub rate_of_processors: f64,
    /// Peak memory.
    pub peak_bytes: f64,
    /// The fraction of all processors' time that was used by other processes.
    pub others: f64,
}

/// Ticks of all processors since boot.
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
        // It has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the number under `key`.
pub fn number(value: &Value, key: &str) -> Result<f64> {
    value[key].as_f64().with_context(|| format!("find the number {key} in {value}"))
}

pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 { numbers[middle] } else { (numbers[middle - 1] + numbers[middle]) / 2.0 }
}

/// Floating-point operations of one step in matrix products, forward and backward (twice the forward's): two
/// per token and matrix weight, the head's included, and attention's products over the causal half.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
}
