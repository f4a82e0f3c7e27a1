//! What rounds cost: the held-out loss of DiLoCo against synchronous training on the same samples, on real
//! text.
//!
//! `bench_diloco [--steps N] [--seed N] [--learning-rate X] [--root DIR]... [--arm
//! INNER_STEPS,OUTER_LR,OUTER_MOMENTUM]...`
//!
//! A synchronous run warms a small model up; from its weights, and with moments that are zero, one run goes
//! on in step and others in rounds, as a job would: the same schedule, the same samples, the same number of
//! inner steps. The text is real: the Rust sources below the roots, by default what cargo unpacked. `noise`
//! is the synchronous run once more on other samples, which tells how much a difference means. With `--arm`,
//! those are measured instead: for tuning. One JSON object goes to standard output.

use muster_data::dedup::select;
use muster_data::documents::Document;
use muster_data::pack::{PackConfig, pack};
use muster_data::scan::{ScanConfig, Split, scan};
use muster_data::tokenizer::{Tokenizer, TokenizerConfig};
use muster_host::compute::Compute;
use muster_llm::diloco::{OuterConfig, OuterOptimizer, ReplicaState, mean_delta};
use muster_llm::model::weights::initial;
use muster_llm::model::{Decoder, ModelConfig};
use muster_llm::train::adamw::Moments;
use muster_llm::train::{Corpus, Dataset, TextWindows, TrainConfig, TrainState, Trainer, order};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use std::{env, io, thread};

/// Text that is read.
const TEXT_BYTES: u64 = 8 << 20;
/// Words of the tokenizer.
const VOCAB: usize = 1024;
/// Text that the tokenizer learns from.
const SAMPLE_BYTES: usize = 1 << 20;
/// Steps together before anything is compared: rounds from scratch fail parity.
const WARM_UP_STEPS: u64 = 100;
/// Their learning rate: what matters is how far they lead, not their number.
const WARM_UP_RATE: f64 = 1e-2;
/// Logical replicas.
const REPLICAS: usize = 4;
/// Sequences of a replica's step.
const SEQUENCES: usize = 8;
/// Their positions.
const CONTEXT: usize = 96;
/// Held-out windows that the loss is a mean over, and how many are computed at a time.
const HELD_OUT: u64 = 512;
const HELD_OUT_AT_A_TIME: u64 = 16;
/// Of so many contributions, one is dropped: 12.5 %.
const DROPPED_ONE_OF: u64 = 8;
/// Runs at a time, each with one thread: a model this small gains little from two.
const RUNS_AT_A_TIME: usize = 2;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How a delta travels.
#[derive(Clone, Copy, PartialEq)]
enum Delta {
    F32,
    Int8,
}

/// A run to be measured.
#[derive(Clone)]
enum Arm {
    Sync { seed: u64 },
    Rounds { inner_steps: u64, outer: OuterConfig, delta: Delta, drops: bool },
}

struct Options {
    steps: u64,
    seed: u64,
    learning_rate: f64,
    roots: Vec<PathBuf>,
    arms: Vec<(u64, OuterConfig)>,
}

/// What all runs begin with.
struct Common {
    model: ModelConfig,
    weights: Vec<f32>,
    config: TrainConfig,
    train: Arc<dyn Dataset>,
    held_out: Arc<dyn Dataset>,
}

fn main() -> Result<()> {
    let options = options()?;
    let began = Instant::now();
    let compute = Compute::new(RUNS_AT_A_TIME)?;
    let common = common(&options, &compute)?;
    let arms = arms(&options);
    let todo: Mutex<VecDeque<usize>> = Mutex::new((0..arms.len()).collect());
    let next = || todo.lock().map_or(None, |mut todo| todo.pop_front());
    let work = || -> Result<Vec<(usize, f64)>> {
        let compute = Compute::new(1)?;
        let mut losses = Vec::new();
        while let Some(place) = next() {
            let (name, arm) = &arms[place];
            let began = Instant::now();
            let loss = common.run(arm, &compute)?;
            say(&format!("{name}: held-out loss {loss:.4}, {:.0} s", began.elapsed().as_secs_f64()))?;
            losses.push((place, loss));
        }
        Ok(losses)
    };
    let found: Vec<(usize, f64)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..RUNS_AT_A_TIME).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| "a run panicked")?);
        joined.collect::<Result<Vec<_>>>().map(|losses| losses.concat())
    })?;
    let loss = |place: usize| found.iter().find(|(at, _)| *at == place).map_or(f64::NAN, |(_, loss)| *loss);
    let sync = loss(0);
    let of = |place: usize| json!({"loss": round(loss(place)), "percent": round((loss(place) / sync - 1.0) * 100.0)});
    let runs: serde_json::Map<String, Value> =
        (0..arms.len()).map(|place| (arms[place].0.clone(), of(place))).collect();
    let result = json!({
        "bench": "diloco", "runs": runs, "steps": options.steps, "warm_up_steps": WARM_UP_STEPS, "replicas": REPLICAS,
        "sequences": SEQUENCES, "context": CONTEXT, "parameters": common.weights.len(), "vocab_size": VOCAB, "seed": options.seed, "learning_rate": options.learning_rate,
        "samples": options.steps * REPLICAS as u64 * SEQUENCES as u64, "held_out_tokens": common.held_out_windows() * CONTEXT as u64,
        "seconds": began.elapsed().as_secs_f64().round(),
    });
    Ok(writeln!(io::stdout(), "{result}")?)
}

fn options() -> Result<Options> {
    let registry = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let mut options =
        Options { steps: 600, seed: 1, learning_rate: 8e-3, roots: Vec::new(), arms: Vec::new() };
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--steps" => options.steps = value.parse()?,
            "--seed" => options.seed = value.parse()?,
            "--learning-rate" => options.learning_rate = value.parse()?,
            "--root" => options.roots.push(value.into()),
            "--arm" => {
                let [inner_steps, learning_rate, momentum] = value.split(',').collect::<Vec<_>>()[..] else {
                    return Err(format!("{value:?} is no INNER_STEPS,OUTER_LR,OUTER_MOMENTUM").into());
                };
                let outer =
                    OuterConfig { learning_rate: learning_rate.parse()?, momentum: momentum.parse()? };
                options.arms.push((inner_steps.parse()?, outer));
            }
            other => return Err(format!("{other} is no option").into()),
        }
    }
    if options.roots.is_empty() {
        options.roots.extend(registry.map(|home| home.join("registry/src")));
    }
    Ok(options)
}

fn arms(options: &Options) -> Vec<(String, Arm)> {
    let (outer, int8) = (OuterConfig::default(), Delta::Int8);
    let rounds = |inner_steps, outer, delta, drops| Arm::Rounds { inner_steps, outer, delta, drops };
    let named = |name: &str, arm| (name.to_owned(), arm);
    let mut arms = vec![named("sync", Arm::Sync { seed: options.seed })];
    if !options.arms.is_empty() {
        let own = options.arms.iter().map(|(inner_steps, outer)| {
            (
                format!("h{inner_steps} lr {} momentum {}", outer.learning_rate, outer.momentum),
                rounds(*inner_steps, *outer, int8, false),
            )
        });
        arms.extend(own);
        return arms;
    }
    let averaging = OuterConfig { learning_rate: 1.0, momentum: 0.0 };
    arms.extend([
        named("noise", Arm::Sync { seed: options.seed + 1 }),
        named("h10_f32", rounds(10, outer, Delta::F32, false)),
        named("h10_int8", rounds(10, outer, int8, false)),
        named("h10_int8_dropped", rounds(10, outer, int8, true)),
        named("h10_averaging", rounds(10, averaging, int8, false)),
        named("h25_int8", rounds(25, outer, int8, false)),
        named("h25_averaging", rounds(25, averaging, int8, false)),
    ]);
    arms
}

/// The data, and a model that is warm.
fn common(options: &Options, compute: &Compute) -> Result<Common> {
    let config = ScanConfig { roots: options.roots.clone(), bytes_max: TEXT_BYTES, ..ScanConfig::default() };
    let scan = scan(&config, Split { index: 0, of: 1 }, compute)?;
    let entries: Vec<_> = scan.documents.iter().map(|document: &Document| document.entry.clone()).collect();
    let choice = select(&[entries]);
    let config =
        TokenizerConfig { vocab_size: VOCAB, sample_bytes: SAMPLE_BYTES, ..TokenizerConfig::default() };
    let tokenizer = Tokenizer::train(&config, std::slice::from_ref(&scan), &choice, compute)?;
    let packed = pack(&scan, &choice.keep[0], "0", &PackConfig::default(), &tokenizer, compute)?;
    let windows = |shard| -> Result<Arc<dyn Dataset>> {
        Ok(Arc::new(TextWindows::new(Arc::new(Corpus::new(vec![shard])?), CONTEXT, false)?))
    };
    let (train, held_out) = (windows(packed.train)?, windows(packed.held_out)?);
    let model = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        hidden_size: 64,
        intermediate_size: 176,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: CONTEXT,
        ..ModelConfig::default()
    };
    let (seed, steps, learning_rate) = (options.seed, options.steps, options.learning_rate);
    let config = TrainConfig {
        seed,
        steps,
        sequences: SEQUENCES,
        learning_rate,
        warmup_steps: 10,
        ..TrainConfig::default()
    };
    let warm = TrainConfig {
        seed: u64::MAX,
        steps: WARM_UP_STEPS,
        microbatches: REPLICAS,
        learning_rate: WARM_UP_RATE,
        ..config.clone()
    };
    let warm = TrainConfig { schedule: muster_llm::train::Schedule::Constant, ..warm };
    let mut common = Common { weights: initial(&model, options.seed), model, config, train, held_out };
    let mut trainer = common.trainer(warm, compute)?;
    let before = common.measure(&trainer)?;
    for _ in 0..WARM_UP_STEPS {
        trainer.step_alone()?;
    }
    common.weights = trainer.weights()?;
    say(&format!(
        "{} windows to train on, {} held out; {} parameters, warmed up from {before:.4} to {:.4}",
        common.train.info().samples,
        common.held_out.info().samples,
        trainer.parameter_count(),
        common.measure(&trainer)?
    ))?;
    let needed = steps * REPLICAS as u64 * SEQUENCES as u64;
    if needed > common.train.info().samples {
        say(&format!("{needed} windows are wanted: some will come again"))?;
    }
    Ok(common)
}

impl Common {
    fn trainer(&self, config: TrainConfig, compute: &Compute) -> Result<Trainer> {
        let decoder = Decoder::trained(self.model.clone(), &self.weights)?;
        Ok(Trainer::new(config, decoder, Arc::clone(&self.train), compute.clone())?)
    }

    fn held_out_windows(&self) -> u64 {
        HELD_OUT.min(self.held_out.info().samples)
    }

    /// The mean held-out loss in nats per token.
    fn measure(&self, trainer: &Trainer) -> Result<f64> {
        let (mut sum, mut count) = (0.0, 0);
        for first in (0..self.held_out_windows()).step_by(HELD_OUT_AT_A_TIME as usize) {
            let places: Vec<u64> = (first..self.held_out_windows().min(first + HELD_OUT_AT_A_TIME)).collect();
            let batch = self.held_out.batch(&places)?;
            let losses = trainer
                .compute()
                .run(|| trainer.model().token_losses(&batch.tokens, &batch.targets, &batch.rows()))?;
            sum += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
            count += losses.len();
        }
        Ok(sum / count as f64)
    }

    /// Trains, and gives the held-out loss.
    fn run(&self, arm: &Arm, compute: &Compute) -> Result<f64> {
        match arm {
            Arm::Sync { seed } => {
                let config = TrainConfig { seed: *seed, microbatches: REPLICAS, ..self.config.clone() };
                let mut trainer = self.trainer(config, compute)?;
                while trainer.step() < self.config.steps {
                    trainer.step_alone()?;
                }
                self.measure(&trainer)
            }
            Arm::Rounds { inner_steps, outer, delta, drops } => {
                self.rounds(*inner_steps, *outer, *delta, *drops, compute)
            }
        }
    }

    fn rounds(
        &self,
        inner_steps: u64,
        outer: OuterConfig,
        delta: Delta,
        drops: bool,
        compute: &Compute,
    ) -> Result<f64> {
        let mut trainer = self.trainer(TrainConfig { microbatches: 1, ..self.config.clone() }, compute)?;
        let (mut global, count) = (self.weights.clone(), self.weights.len());
        let mut outer = OuterOptimizer::new(outer, count)?;
        let mut replicas: Vec<ReplicaState> =
            (0..REPLICAS as u32).map(|replica| ReplicaState::new(replica, &global)).collect();
        let (mut returned, mut cursor) = (Vec::new(), 0);
        let (each, turn) = (SEQUENCES as u64, (REPLICAS * SEQUENCES) as u64);
        for round in 0..self.config.steps / inner_steps {
            // What was dropped is dealt again, first.
            let old = order::part(&returned, 0, inner_steps * turn);
            returned = Vec::new();
            let left = inner_steps * turn - old.iter().map(|range| range.end - range.start).sum::<u64>();
            let samples: Vec<_> = old.into_iter().chain(std::iter::once(cursor..cursor + left)).collect();
            cursor += left;
            let (mut mean, mut deltas, mut merged) = (vec![0f64; count], Vec::new(), Vec::new());
            for replica in &mut replicas {
                let before = replica.moments.clone();
                let moments = std::mem::replace(&mut replica.moments, Moments::zero(0));
                trainer.put(
                    TrainState { step: round * inner_steps, ..TrainState::default() },
                    &replica.weights,
                    moments,
                )?;
                let mut used = Vec::new();
                for inner in 0..inner_steps {
                    let numbers = order::part(
                        &samples,
                        (u64::from(replica.replica) * inner_steps + inner) * each,
                        each,
                    );
                    let batch = trainer.batch(&numbers)?;
                    let gradients =
                        trainer.gradients_of(&batch, numbers.first().map_or(0, |range| range.start))?;
                    trainer.apply(trainer.step(), gradients)?;
                    used.extend(numbers);
                }
                // Every replica is dropped as often as another, and never all of a round.
                let number = round * REPLICAS as u64 + u64::from(replica.replica);
                if drops && (number + round / 2) % DROPPED_ONE_OF == 3 {
                    replica.moments = before;
                    used.into_iter().for_each(|range| order::skip(&mut returned, range));
                    continue;
                }
                replica.weights = trainer.weights()?;
                replica.moments = trainer.take_moments()?;
                merged.push(replica.replica);
                match delta {
                    Delta::Int8 => deltas.push((replica.replica, replica.delta(&global)?)),
                    Delta::F32 => {
                        let both = global.iter().zip(&replica.weights);
                        mean.iter_mut()
                            .zip(both)
                            .for_each(|(mean, (old, new))| *mean += f64::from(old - new));
                    }
                }
            }
            let mean = match delta {
                Delta::Int8 => mean_delta(count, &deltas)?,
                Delta::F32 => mean.iter().map(|sum| (sum / merged.len() as f64) as f32).collect(),
            };
            outer.step(&mut global, &mean)?;
            for replica in &mut replicas {
                replica.start_round(&global)?;
            }
        }
        trainer.put(
            TrainState { step: self.config.steps, ..TrainState::default() },
            &global,
            Moments::zero(count),
        )?;
        self.measure(&trainer)
    }
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "{line}")?)
}

fn round(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}
