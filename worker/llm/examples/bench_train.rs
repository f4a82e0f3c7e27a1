//! Our side of `cargo xtask bench train`: trains the model of one size of `oracle/bench_train.json`, as told on standard input.
//!
//! It answers the same lines as `oracle/bench_train.py` (`run K`, `profile K`, `gemm`), one JSON object each, so that the bench can
//! let both take turns in one run. It must stay a mere driver: whatever makes training fast belongs in the library.
//!
//! `bench_train serve SIZE`, run in the workspace's root.

use candle_core::{Device, Tensor};
use muster_llm::compute::Compute;
use muster_llm::data::shard::Shard;
use muster_llm::durable;
use muster_llm::model::ModelConfig;
use muster_llm::train::{Corpus, TrainConfig, Trainer};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs, io};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Where the sizes and the optimizer's numbers are.
const PLAN: &str = "oracle/bench_train.json";
/// Side of the square matrices whose product tells the machine's best rate.
const GEMM_SIDE: usize = 2048;
/// How often that product is taken; the best counts.
const GEMM_REPEATS: usize = 12;
/// Windows of tokens that the run goes over again and again.
const WINDOWS: usize = 64;

/// A trainer that is told how many steps to make.
struct Run {
    trainer: Trainer,
    tokens_per_step: u64,
}

impl Run {
    fn new(plan: &Value, size: &Value, compute: &Compute) -> Outcome<Self> {
        let model: ModelConfig = serde_json::from_value(size["model"].clone())?;
        let number = |key: &str| plan["optimizer"][key].as_f64().ok_or_else(|| format!("{PLAN} has no optimizer.{key}"));
        let config = TrainConfig {
            seed: 1,
            // More than any bench makes: the rate stays where it is.
            steps: 1 << 20,
            warmup_steps: 0,
            final_rate: 1.0,
            context: whole(&size["context"])?,
            microbatches: 1,
            sequences: whole(&size["batch"])?,
            learning_rate: number("learning_rate")?,
            beta1: number("beta1")?,
            beta2: number("beta2")?,
            epsilon: number("epsilon")?,
            weight_decay: number("weight_decay")?,
            clip_norm: number("clip_norm")?,
            model,
        };
        let corpus = corpus(config.model.vocab_size, WINDOWS * config.context + 1)?;
        let tokens_per_step = config.tokens_per_step();
        Ok(Self { trainer: Trainer::new(config, Arc::new(corpus), compute.clone())?, tokens_per_step })
    }

    fn step(&mut self) -> Outcome<f64> {
        let step = self.trainer.step();
        let sum = self.trainer.loss_and_gradients(step, 0..1)?;
        self.trainer.apply(step, &sum.flat)?;
        Ok(sum.loss_sum)
    }

    fn steps(&mut self, count: u64) -> Outcome<Value> {
        let begun = Instant::now();
        let mut loss = f64::NAN;
        for _ in 0..count {
            loss = self.step()?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(json!({"steps": count, "seconds": seconds, "tokens": count * self.tokens_per_step, "loss": loss}))
    }

    /// Where the time goes. The library has no hook for that yet, so the parts are the two calls.
    fn profile(&mut self, count: u64) -> Outcome<Value> {
        let (mut gradients, mut update) = (0.0, 0.0);
        for _ in 0..count {
            let step = self.trainer.step();
            let begun = Instant::now();
            let sum = self.trainer.loss_and_gradients(step, 0..1)?;
            gradients += begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            self.trainer.apply(step, &sum.flat)?;
            update += begun.elapsed().as_secs_f64();
        }
        let parts = json!({"forward and backward": gradients, "clip and update": update});
        Ok(json!({"steps": count, "seconds": gradients + update, "parts": parts}))
    }
}

/// Drawn tokens, as one document.
fn corpus(vocab_size: usize, count: usize) -> Outcome<Corpus> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let vocab_size = u16::try_from(vocab_size)?;
    let packed: Vec<u8> = (0..count).flat_map(|_| random.random_range(0..vocab_size).to_le_bytes()).collect();
    let document = json!({"path": "drawn", "hash": "", "start": 0, "tokens": count - 1, "bytes": 1});
    let index = json!({
        "held_out": false, "token_bytes": 2, "vocab_size": vocab_size, "tokenizer": "none", "tokens": count, "text_bytes": 1,
        "hash": durable::hash(&packed), "documents": [document],
    });
    Ok(Corpus::new(vec![Shard::open(&serde_json::to_vec(&index)?, packed)?])?)
}

fn whole(value: &Value) -> Outcome<usize> {
    Ok(usize::try_from(value.as_u64().ok_or_else(|| format!("{value} is no whole number"))?)?)
}

/// A size in `/proc/self/status`, in bytes; 0 where there is none.
fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes * 1024)
}

/// The best rate of a large product of matrices.
fn gemm(compute: &Compute) -> Outcome<Value> {
    let numbers = |seed: u32| (0..GEMM_SIDE * GEMM_SIDE).map(move |i| (i as u32 ^ seed) as f32 * 1e-9).collect::<Vec<_>>();
    let matrix = |seed| Tensor::from_vec(numbers(seed), (GEMM_SIDE, GEMM_SIDE), &Device::Cpu);
    let (a, b) = (matrix(1)?, matrix(2)?);
    let mut best = f64::INFINITY;
    for _ in 0..GEMM_REPEATS {
        let begun = Instant::now();
        compute.run(|| a.matmul(&b))?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok(json!({"gflops": 2.0 * (GEMM_SIDE as f64).powi(3) / best / 1e9}))
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [verb, name] = arguments.as_slice() else { return Err("usage: bench_train serve SIZE".into()) };
    let plan: Value = serde_json::from_slice(&fs::read(PLAN)?)?;
    let size = &plan["sizes"][name];
    if verb != "serve" || size.is_null() {
        return Err(format!("usage: bench_train serve SIZE; {name:?} may be no size in {PLAN}").into());
    }
    let compute = Compute::new(whole(&plan["threads"])?)?;
    let mut tiny = size.clone();
    (tiny["batch"], tiny["context"]) = (json!(2), json!(16));
    (tiny["model"]["vocab_size"], tiny["model"]["num_hidden_layers"]) = (json!(64), json!(1));
    Run::new(&plan, &tiny, &compute)?.step()?;
    let base = status("VmRSS");
    // The greatest resident size begins again from the present one; where that can't be, it is that since the start.
    let _ = fs::write("/proc/self/clear_refs", "5");

    let mut run = Run::new(&plan, size, &compute)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", json!({"peer": "muster", "parameters": run.trainer.parameter_count()}))?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (verb, count) = line.split_once(' ').unwrap_or((&line, "0"));
        let answer = match verb {
            "run" => {
                let mut answer = run.steps(count.parse()?)?;
                answer["peak_bytes"] = json!(status("VmHWM").saturating_sub(base));
                answer
            }
            "profile" => run.profile(count.parse()?)?,
            "gemm" => gemm(&compute)?,
            _ => return Err(format!("unknown command {line:?}: there are run K, profile K and gemm").into()),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
