//! Fifty steps of AdamW and a step of direct preference optimisation, against what PyTorch recorded (see
//! `oracle/models.py`).

use super::super::*;
use crate::model::{Decoder, ModelConfig, hub};
use crate::ops::linear_cross_entropy::IGNORE_INDEX;
use muster_host::compute::Compute;
use safetensors::tensor::SafeTensors;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;

/// `MUSTER_GOLDEN` names another directory of recordings.
fn golden(path: &str) -> PathBuf {
    let recorded = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    std::env::var_os("MUSTER_GOLDEN").map_or_else(recorded, PathBuf::from).join(path)
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(golden(path)).expect("is recorded")
}

fn load(path: &str) -> Decoder {
    let (config, flat) = hub::load_dir(&golden(path)).expect("loads");
    Decoder::trained(config, &flat).expect("builds")
}

fn whole(file: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let tensor = file.tensor(name).expect("is recorded");
    let number = |bytes: &[u8]| {
        u32::try_from(i64::from_le_bytes(bytes.try_into().expect("has 8 bytes"))).expect("is a token")
    };
    tensor.data().chunks_exact(8).map(number).collect()
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).expect("is recorded");
    tensor
        .data()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("has 4 bytes")))
        .collect()
}

/// Each token's target is the next one; the last has none, and neither have those that `counts` leaves out.
fn targets(tokens: &[u32], time: usize, counts: impl Fn(usize) -> bool) -> Vec<u32> {
    let target = |at: usize| {
        if (at + 1).is_multiple_of(time) || !counts(at + 1) { IGNORE_INDEX } else { tokens[at + 1] }
    };
    (0..tokens.len()).map(target).collect()
}

/// A data set that is never read: the tests pass batches themselves.
struct Blank(DatasetInfo);

impl Dataset for Blank {
    fn info(&self) -> &DatasetInfo {
        &self.0
    }

    fn batch(&self, places: &[u64]) -> Result<TokenBatch, Error> {
        let (sequences, time) = (places.len(), self.0.positions);
        let tokens = vec![1; sequences * time];
        Ok(TokenBatch { sequences, time, targets: tokens.clone(), tokens, ..TokenBatch::default() })
    }
}

#[derive(Deserialize)]
struct Fifty {
    run: serde_json::Value,
    losses: Vec<f64>,
    gradient_norms: Vec<f64>,
    learning_rates: Vec<f64>,
}

#[test]
fn fifty_steps_are_pytorchs() {
    for name in ["llama-gqa-llama3", "qwen3-untied"] {
        let fifty: Fifty =
            serde_json::from_slice(&read(&format!("models/{name}/fifty.json"))).expect("reads");
        let bytes = read(&format!("models/{name}/fifty.safetensors"));
        let file = SafeTensors::deserialize(&bytes).expect("reads");
        let [batches, sequences, time] =
            file.tensor("tokens").expect("is recorded").shape().try_into().expect("has 3 dimensions");
        let tokens = whole(&file, "tokens");
        let mut config: TrainConfig = serde_json::from_value(fifty.run.clone()).expect("are our parameters");
        (config.microbatches, config.sequences) = (1, sequences);
        let model = load(&format!("models/{name}"));
        let about = DatasetInfo {
            samples: 1,
            positions: time,
            vocab_size: model.config().vocab_size,
            hash: String::new(),
        };
        let compute = Compute::new(2).expect("starts");
        let mut trainer = Trainer::new(config, model, Arc::new(Blank(about)), compute).expect("starts");
        for (step, loss) in fifty.losses.iter().enumerate() {
            let tokens = tokens.chunks(sequences * time).nth(step % batches).expect("is recorded").to_vec();
            let batch = TokenBatch {
                sequences,
                time,
                targets: targets(&tokens, time, |_| true),
                tokens,
                ..TokenBatch::default()
            };
            let gradients = trainer.gradients_of(&batch, 0).expect("computes");
            let report = trainer.apply(step as u64, gradients).expect("applies");
            assert!(
                (report.loss - loss).abs() < 1e-3,
                "{name} step {step}: a loss of {}, not {loss}",
                report.loss
            );
            assert!((report.learning_rate - fifty.learning_rates[step]).abs() < 1e-12, "{name} step {step}");
            let norm = fifty.gradient_norms[step];
            assert!(
                (report.gradient_norm - norm).abs() < 2e-3 * norm,
                "{name} step {step}: a norm of {}, not {norm}",
                report.gradient_norm
            );
        }
    }
}

#[test]
fn a_step_on_preferences_is_pytorchs() {
    let bytes = read("dpo/dpo.safetensors");
    let file = SafeTensors::deserialize(&bytes).expect("reads");
    let beta = file
        .tensor("beta")
        .expect("is recorded")
        .data()
        .try_into()
        .map(f64::from_le_bytes)
        .expect("is one number");
    let [pairs, time] =
        file.tensor("chosen.tokens").expect("is recorded").shape().try_into().expect("has 2 dimensions");
    let mut batch =
        TokenBatch { sequences: 2 * pairs, time, reference: vec![[0.0; 2]; pairs], ..TokenBatch::default() };
    let sides = ["chosen", "rejected"].map(|side| {
        let (tokens, mask) = (whole(&file, &format!("{side}.tokens")), whole(&file, &format!("{side}.mask")));
        let targets = targets(&tokens, time, |at| mask[at] == 1);
        (tokens, targets)
    });
    for pair in 0..pairs {
        for (tokens, targets) in &sides {
            batch.tokens.extend_from_slice(&tokens[pair * time..(pair + 1) * time]);
            batch.targets.extend_from_slice(&targets[pair * time..(pair + 1) * time]);
        }
    }
    let (policy, reference) = (load("models/llama-gqa-llama3"), load("dpo/reference"));
    let expect = |found: &[[f64; 2]], prefix: &str| {
        for (side, name) in ["chosen", "rejected"].iter().enumerate() {
            for (found, wanted) in found.iter().zip(floats(&file, &format!("log_probability.{prefix}{name}")))
            {
                assert!(
                    (found[side] - f64::from(wanted)).abs() < 1e-4 * f64::from(wanted).abs(),
                    "{prefix}{name}: {} {wanted}",
                    found[side]
                );
            }
        }
    };
    expect(&loss::log_probabilities(&policy, &batch, None).expect("computes"), "");
    batch.reference = loss::log_probabilities(&reference, &batch, None).expect("computes");
    expect(&batch.reference, "reference_");

    let objective = Objective::Preference { beta, label_smoothing: 0.0 };
    let (sums, gradients) =
        loss::gradients(&policy, &batch, objective, 1.0 / pairs as f64, None, Vec::new()).expect("computes");
    let (chosen, rejected) = (floats(&file, "reward.chosen"), floats(&file, "reward.rejected"));
    let margins: Vec<f64> = chosen.iter().zip(&rejected).map(|(a, b)| f64::from(a - b)).collect();
    let close = |found: f64, wanted: f64| {
        assert!((found - wanted).abs() < 1e-4 * wanted.abs(), "{found}, not {wanted}")
    };
    close(sums.loss / pairs as f64, f64::from(floats(&file, "loss")[0]));
    close(sums.margin, margins.iter().sum());
    assert_eq!(
        (sums.counted, sums.preferred),
        (pairs as f64, margins.iter().filter(|margin| **margin > 0.0).count() as f64)
    );
    let flat = gradients.into_vec().expect("reads");
    for slot in policy.store().slots().iter() {
        let wanted = floats(&file, &format!("grad.{}", slot.name));
        let norm = |numbers: &mut dyn Iterator<Item = f32>| {
            numbers.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
        };
        let off = norm(&mut flat[slot.range()].iter().zip(&wanted).map(|(a, b)| a - b));
        let size = norm(&mut wanted.iter().copied());
        assert!(off < 1e-4 * size, "{}: off by {off} of {size}", slot.name);
    }
}

#[test]
fn label_smoothing_is_a_mixture_of_both_labels() {
    let model = ModelConfig {
        vocab_size: 8,
        hidden_size: 16,
        intermediate_size: 16,
        num_hidden_layers: 1,
        ..ModelConfig::default()
    };
    let model = Decoder::trained(model.clone(), &crate::model::weights::initial(&model, 1)).expect("builds");
    let tokens: Vec<u32> = (0..24).map(|i| i * i % 7).collect();
    let batch = |reference| TokenBatch {
        sequences: 4,
        time: 6,
        targets: targets(&tokens, 6, |_| true),
        tokens: tokens.clone(),
        starts: None,
        reference,
    };
    let given = batch(vec![[-9.0, -11.0], [-10.0, -10.5]]);
    let of = |batch: &TokenBatch, label_smoothing| {
        let objective = Objective::Preference { beta: 0.5, label_smoothing };
        let (sums, gradients) =
            loss::gradients(&model, batch, objective, 0.5, None, Vec::new()).expect("computes");
        (sums.loss, gradients.into_vec().expect("reads"))
    };
    let (plain, smooth) = (of(&given, 0.0), of(&given, 0.25));
    // With the labels turned round: chosen and rejected change places, and so do the signs of margins.
    let mut turned = given.clone();
    for pair in 0..2 {
        let at = pair * 12;
        turned.tokens[at..at + 12].rotate_left(6);
        turned.targets[at..at + 12].rotate_left(6);
        turned.reference[pair].reverse();
    }
    let other = of(&turned, 0.0);
    assert!((smooth.0 - (0.75 * plain.0 + 0.25 * other.0)).abs() < 1e-5);
    assert!(
        smooth
            .1
            .iter()
            .zip(plain.1.iter().zip(&other.1))
            .all(|(s, (a, b))| (s - (0.75 * a + 0.25 * b)).abs() < 1e-5)
    );
}
