//! Our side of `cargo xtask bench train`: trains the model of one size of `oracle/bench_train.json`, as told
//! on standard input.
//!
//! It answers the same lines as `oracle/bench_train.py` (`run K`, `profile K`, `gemm`), one JSON object each,
//! so that the bench can let both take turns in one run. It must stay a mere driver: whatever makes training
//! fast belongs in the library.
//!
//! A size with a `device` runs there, and with `precision` in that. On a GPU `peak_bytes` are those that the
//! device has in use after the steps, and `profile` counts what it takes to ask for the work, not the work.
//!
//! `bench_train serve SIZE`, run in the workspace's root.

use muster_host::compute::Compute;
use muster_llm::cpu::matmul::{MatrixView, MatrixViewMut, Threads, WriteMode, matmul};
use muster_llm::cpu::profile::{self, OP_KINDS};
use muster_llm::device;
use muster_llm::model::weights::{initial, split_flat};
use muster_llm::model::{Decoder, ModelConfig, Precision, WeightRole, WeightStore};
use muster_llm::train::{Dataset, DatasetInfo, Schedule, TokenBatch, TrainConfig, Trainer};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
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
}

impl Run {
    fn new(plan: &Value, size: &Value, compute: &Compute) -> Outcome<Self> {
        let model: ModelConfig = serde_json::from_value(size["model"].clone())?;
        let number = |key: &str| {
            plan["optimizer"][key].as_f64().ok_or_else(|| format!("{PLAN} has no optimizer.{key}"))
        };
        let config = TrainConfig {
            // More than any bench makes.
            steps: 1 << 20,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            microbatches: 1,
            sequences: whole(&size["batch"])?,
            learning_rate: number("learning_rate")?,
            beta1: number("beta1")?,
            beta2: number("beta2")?,
            epsilon: number("epsilon")?,
            weight_decay: number("weight_decay")?,
            clip_norm: number("clip_norm")?,
            precision: if size["precision"].is_null() {
                Precision::F32
            } else {
                serde_json::from_value(size["precision"].clone())?
            },
            ..TrainConfig::default()
        };
        let drawn = Drawn::new(model.vocab_size, whole(&size["context"])?);
        let device = device::open(size["device"].as_str().unwrap_or("cpu"))?;
        let store = WeightStore::new(
            split_flat(&model, &initial(&model, 1), WeightRole::Trained)?,
            config.precision,
            &device,
        )?;
        let decoder = Decoder::new(model, store)?;
        Ok(Self { trainer: Trainer::new(config, decoder, Arc::new(drawn), compute.clone())? })
    }

    /// Gradients, then the update; the time that each took, and the loss.
    fn step(&mut self) -> Outcome<([Duration; 2], f64)> {
        let step = self.trainer.step();
        let begun = Instant::now();
        let plan = self.trainer.plan();
        let sum = self.trainer.gradients_of(&self.trainer.batch(&plan[0])?, step)?;
        let gradients = begun.elapsed();
        let begun = Instant::now();
        let report = self.trainer.apply(step, sum)?;
        Ok(([gradients, begun.elapsed()], report.loss))
    }

    fn steps(&mut self, count: u64) -> Outcome<Value> {
        let begun = Instant::now();
        let mut loss = f64::NAN;
        for _ in 0..count {
            (_, loss) = self.step()?;
        }
        // The last update may still be under way.
        self.device().synchronize()?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok(
            json!({"steps": count, "seconds": seconds, "tokens": count * self.trainer.tokens_per_step(), "loss": loss}),
        )
    }

    fn device(&self) -> &device::Device {
        self.trainer.model().store().device()
    }

    /// Where the time goes. The counting goes on afterwards, so this comes after what is measured.
    fn profile(&mut self, count: u64) -> Outcome<Value> {
        profile::count_by(nanoseconds);
        profile::take();
        let (mut gradients, mut update) = (0.0, 0.0);
        for _ in 0..count {
            let ([a, b], _) = self.step()?;
            gradients += a.as_secs_f64();
            update += b.as_secs_f64();
        }
        let counted = profile::take();
        let seconds = |nanoseconds: u64| nanoseconds as f64 * 1e-9;
        let mut parts: serde_json::Map<_, _> = OP_KINDS
            .iter()
            .zip(counted.op_ns)
            .map(|(part, ns)| (format!("{part:?}").to_lowercase(), json!(seconds(ns))))
            .collect();
        let named: u64 = counted.op_ns.iter().sum();
        parts.insert("clip and update".to_owned(), json!(update));
        parts.insert("other".to_owned(), json!((gradients - seconds(named)).max(0.0)));
        Ok(json!({
            "steps": count, "seconds": gradients + update, "parts": parts,
            "gemm_seconds": seconds(counted.gemm_ns), "gemm_flops": counted.gemm_flops,
        }))
    }
}

/// A clock for the library, which reads none of its own.
fn nanoseconds() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGUN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Sequences of drawn tokens.
struct Drawn {
    info: DatasetInfo,
    windows: Vec<Vec<u32>>,
}

impl Drawn {
    fn new(vocab_size: usize, context: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut window = || (0..=context).map(|_| random.next_u32() % vocab_size as u32).collect();
        let info =
            DatasetInfo { samples: WINDOWS as u64, positions: context, vocab_size, hash: "drawn".to_owned() };
        Self { info, windows: (0..WINDOWS).map(|_| window()).collect() }
    }
}

impl Dataset for Drawn {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn batch(&self, places: &[u64]) -> Result<TokenBatch, muster_llm::train::Error> {
        let windows = places.iter().map(|place| &self.windows[*place as usize % WINDOWS]);
        let (mut tokens, mut targets) = (Vec::new(), Vec::new());
        for window in windows {
            tokens.extend_from_slice(&window[..self.info.positions]);
            targets.extend_from_slice(&window[1..]);
        }
        Ok(TokenBatch {
            sequences: places.len(),
            time: self.info.positions,
            tokens,
            targets,
            ..TokenBatch::default()
        })
    }
}

fn whole(value: &Value) -> Outcome<usize> {
    Ok(usize::try_from(value.as_u64().ok_or_else(|| format!("{value} is no whole number"))?)?)
}

/// A size in `/proc/self/status`, in bytes; 0 where there is none.
fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

/// The best rate of a large product of matrices.
fn gemm(compute: &Compute) -> Value {
    let numbers =
        |seed: u32| (0..GEMM_SIDE * GEMM_SIDE).map(|i| (i as u32 ^ seed) as f32 * 1e-9).collect::<Vec<_>>();
    let (a, b, mut c) = (numbers(1), numbers(2), numbers(3));
    let mut best = f64::INFINITY;
    for _ in 0..GEMM_REPEATS {
        let [left, right] = [&a, &b].map(|numbers| MatrixView::dense(numbers, GEMM_SIDE, GEMM_SIDE));
        let out = MatrixViewMut::dense(&mut c, GEMM_SIDE, GEMM_SIDE);
        let begun = Instant::now();
        compute.run(|| matmul(out, WriteMode::Overwrite, 1.0, left, right, Threads::Pool));
        best = best.min(begun.elapsed().as_secs_f64());
    }
    json!({"gflops": 2.0 * (GEMM_SIDE as f64).powi(3) / best / 1e9})
}

fn main() -> Outcome<()> {
    device::keep_freed_memory();
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
    // The greatest resident size begins again from the present one; where that can't be, it is that since the
    // start.
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
                let held = device::free_and_total_memory(run.device()).map(|[free, all]| (all - free) as u64);
                answer["peak_bytes"] = json!(held.unwrap_or_else(|| status("VmHWM").saturating_sub(base)));
                answer
            }
            "profile" => run.profile(count.parse()?)?,
            "gemm" => gemm(&compute),
            _ => return Err(format!("unknown command {line:?}: there are run K, profile K and gemm").into()),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
