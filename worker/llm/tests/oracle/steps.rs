//! Whole training as PyTorch did it: fifty steps of AdamW on the same batches from the same weights.

use crate::recording::{Recording, directories, model, name, shifted};
use muster_host::compute::Compute;
use muster_llm::train::{Dataset, DatasetInfo, Error, TokenBatch, TrainConfig, Trainer};
use serde_json::Value;
use std::fs;
use std::sync::Arc;

/// How far a loss may be from PyTorch's, relative to it.
const LOSS_TOLERANCE: f64 = 1e-3;

/// The batches of a recording.
struct Batches {
    info: DatasetInfo,
    batches: Vec<TokenBatch>,
}

impl Dataset for Batches {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn batch(&self, _: &[u64]) -> Result<TokenBatch, Error> {
        // The trainer asks once, to see that every weight has a gradient; each step is given its batch by
        // hand.
        Ok(self.batches[0].clone())
    }
}

fn batches(recorded: &Recording, vocab_size: usize) -> Batches {
    let (shape, tokens) = recorded.integers("tokens");
    let [count, sequences, time] = *shape else { panic!("tokens have batches and rows") };
    let batch = |tokens: &[i64]| TokenBatch {
        sequences,
        time,
        targets: shifted(tokens, time),
        tokens: tokens.iter().map(|token| u32::try_from(*token).expect("is a token")).collect(),
        ..TokenBatch::default()
    };
    let info =
        DatasetInfo { samples: (count * sequences) as u64, positions: time, vocab_size, hash: String::new() };
    Batches { info, batches: tokens.chunks(sequences * time).map(batch).collect() }
}

fn config(run: &Value, sequences: usize) -> TrainConfig {
    let number = |key: &str| run[key].as_f64().unwrap_or_else(|| panic!("{key} was recorded"));
    let whole = |key: &str| run[key].as_u64().unwrap_or_else(|| panic!("{key} was recorded"));
    TrainConfig {
        steps: whole("steps"),
        microbatches: 1,
        sequences,
        warmup_steps: whole("warmup_steps"),
        learning_rate: number("learning_rate"),
        final_rate: number("final_rate"),
        beta1: number("beta1"),
        beta2: number("beta2"),
        epsilon: number("epsilon"),
        weight_decay: number("weight_decay"),
        clip_norm: number("clip_norm"),
        ..TrainConfig::default()
    }
}

#[test]
fn fifty_steps_lose_what_they_lose_in_pytorch() {
    let mut runs = 0;
    for directory in directories("models").iter().filter(|directory| directory.join("fifty.json").exists()) {
        let (label, model) = (name(directory), model(directory));
        let recorded: Value =
            serde_json::from_slice(&fs::read(directory.join("fifty.json")).expect("reads")).expect("is JSON");
        let batches = Arc::new(batches(
            &Recording::open(&directory.join("fifty.safetensors")),
            model.config().vocab_size,
        ));
        let config = config(&recorded["run"], batches.batches[0].sequences);
        let steps = config.steps;
        let mut trainer =
            Trainer::new(config, model, batches.clone(), Compute::new(1).expect("starts")).expect("fits");
        for step in 0..steps {
            let place = step as usize;
            let theirs = |key: &str| {
                recorded[key][place].as_f64().unwrap_or_else(|| panic!("{key} of step {step} was recorded"))
            };
            let gradients = trainer
                .gradients_of(&batches.batches[place % batches.batches.len()], step)
                .expect("computes");
            let report = trainer.apply(step, gradients).expect("applies");
            let told = [
                ("losses", report.loss, LOSS_TOLERANCE),
                ("gradient_norms", report.gradient_norm, 10.0 * LOSS_TOLERANCE),
                ("learning_rates", report.learning_rate, 1e-12),
            ];
            for (key, ours, tolerance) in told {
                let theirs = theirs(key);
                assert!(
                    (ours - theirs).abs() <= tolerance * theirs,
                    "{label}: step {step}: {key}: {ours}, theirs {theirs}"
                );
            }
        }
        runs += 1;
    }
    assert!(runs > 0, "a run was recorded");
}
