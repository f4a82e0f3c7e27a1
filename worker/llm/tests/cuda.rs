//! What runs on a GPU, held against the CPU: losses and every gradient, in f32, and in bf16 as far as its
//! digits go; steps of the optimizer; checkpoints that go from one to the other; and what is said when the
//! memory is too small.
//!
//! Without a GPU it says so and checks nothing: the composed operations are held against the fused ones on
//! the CPU elsewhere.
#![cfg(feature = "cuda")]

use muster_host::compute::Compute;
use muster_llm::device::{self, Device, is_out_of_memory};
use muster_llm::model::weights::initial;
use muster_llm::model::{Decoder, Family, ModelConfig, Precision};
use muster_llm::ops::BatchLayout;
use muster_llm::ops::linear_cross_entropy::LossTargets;
use muster_llm::peft::{self, MethodConfig};
use muster_llm::train::{
    CheckpointManifest, Dataset, DatasetInfo, Error, TokenBatch, TrainConfig, Trainer, checkpoint,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::Arc;

/// The first GPU; `None`, which is said, where there is none.
fn gpu() -> Option<Device> {
    device::open("cuda:0").map_err(|reason| drop(writeln!(io::stdout(), "skipped: failed to {reason}"))).ok()
}

fn config(model_type: Family) -> ModelConfig {
    ModelConfig {
        model_type,
        vocab_size: 61,
        hidden_size: 256,
        intermediate_size: 256,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: 512,
        initializer_range: 0.1,
        ..ModelConfig::default()
    }
}

fn model(config: &ModelConfig, method: &Value, precision: Precision, device: &Device) -> Decoder {
    let flat = initial(config, 5).iter().enumerate().map(|(i, x)| x + 0.02 * (i as f32).sin()).collect();
    let method: MethodConfig = serde_json::from_value(method.clone()).expect("a method");
    let model = peft::build(config.clone(), flat, &method, precision, device, 5).expect("builds");
    // Low-rank additions begin as zeros: moved, they have gradients on both sides.
    let moved: Vec<f32> = model
        .store()
        .trained()
        .expect("reads")
        .iter()
        .enumerate()
        .map(|(i, x)| x + 0.02 * (i as f32).cos())
        .collect();
    model.store().set(&moved).expect("fits");
    model
}

fn tokens(count: u32, salt: u32) -> Vec<u32> {
    (0..count).map(|i| (i * i * 31 + i * 7 + salt) % 61).collect()
}

fn off(a: &[f32], b: &[f32]) -> f32 {
    let norm = b.iter().map(|x| x * x).sum::<f32>().sqrt();
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt() / norm
}

fn gradients(model: &Decoder, time: usize, packed: bool) -> (f64, Vec<f32>) {
    let count = 2 * time;
    let mut rows = BatchLayout::new(2, time);
    if packed {
        rows.starts =
            Some((0..count as u32).map(|row| if row % (time as u32) < 23 { 0 } else { 23 }).collect());
    }
    let targets = LossTargets::mean(tokens(count as u32, 5));
    let (loss, gradients) =
        model.gradients(&tokens(count as u32, 1), &targets, &rows, Some(7), Vec::new()).expect("runs");
    assert_eq!(gradients.untouched().count(), 0);
    (loss, gradients.into_vec().expect("reads"))
}

#[test]
fn a_gpu_gives_the_losses_and_gradients_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let full = json!({"method": "full"});
    // (family, method, positions: several blocks of attention or one, packed)
    let table = [
        (Family::Llama, full.clone(), 300, false),
        (Family::Llama, full.clone(), 300, true),
        (Family::Qwen2, full.clone(), 70, false),
        (Family::Qwen3, full, 70, true),
        (
            Family::Llama,
            json!({"method": "lora", "r": 4, "targets": "all-linear", "dropout": 0.1}),
            70,
            false,
        ),
        (Family::Llama, json!({"method": "qlora", "base": "q4_k", "lora": {"r": 4}}), 70, false),
        (
            Family::Llama,
            json!({"method": "qlora", "base": "q8_0", "embeddings": "q4_k", "lora": {"r": 4}}),
            70,
            false,
        ),
        (Family::Llama, json!({"method": "prefix", "virtual_tokens": 3}), 70, false),
        (Family::Llama, json!({"method": "prompt", "virtual_tokens": 3}), 70, false),
    ];
    for (family, method, time, packed) in table {
        let config = config(family);
        let exact = model(&config, &method, Precision::F32, &Device::Cpu);
        let (loss, slopes) = gradients(&exact, time, packed);
        for (precision, bound) in [(Precision::F32, 1e-3), (Precision::Bf16, 8e-2)] {
            let (found, theirs) = gradients(&model(&config, &method, precision, &gpu), time, packed);
            let name = format!("{family:?} {method} {precision:?}");
            assert!((found - loss).abs() < f64::from(bound) * 0.2 * loss, "{name}: {found} against {loss}");
            for slot in exact.store().slots().iter() {
                let found = off(&theirs[slot.range()], &slopes[slot.range()]);
                assert!(found <= bound, "{name} {}: off by {found}", slot.name);
            }
        }
    }
}

/// Sequences of drawn tokens.
struct Drawn(DatasetInfo);

impl Dataset for Drawn {
    fn info(&self) -> &DatasetInfo {
        &self.0
    }

    fn batch(&self, places: &[u64]) -> Result<TokenBatch, Error> {
        let time = self.0.positions;
        let of =
            |salt: u32| places.iter().flat_map(|place| tokens(time as u32, *place as u32 + salt)).collect();
        Ok(TokenBatch {
            sequences: places.len(),
            time,
            tokens: of(1),
            targets: of(2),
            ..TokenBatch::default()
        })
    }
}

fn trainer(precision: Precision, sequences: usize, device: &Device) -> Trainer {
    let info = DatasetInfo { samples: 64, positions: 64, vocab_size: 61, hash: "drawn".to_owned() };
    let train = TrainConfig {
        steps: 9,
        microbatches: 2,
        sequences,
        warmup_steps: 1,
        learning_rate: 1e-3,
        precision,
        ..TrainConfig::default()
    };
    let model = model(&config(Family::Llama), &json!({"method": "full"}), precision, device);
    Trainer::new(train, model, Arc::new(Drawn(info)), Compute::new(1).expect("starts")).expect("starts")
}

#[test]
fn steps_on_a_gpu_are_those_on_the_cpu_and_checkpoints_go_both_ways() {
    let Some(gpu) = gpu() else { return };
    for (precision, bound) in [(Precision::F32, 1e-3), (Precision::Bf16, 2e-2)] {
        let (mut host, mut there) = (trainer(Precision::F32, 2, &Device::Cpu), trainer(precision, 2, &gpu));
        let before = host.weights().expect("reads");
        for _ in 0..3 {
            let (a, b) = (there.step_alone().expect("steps"), host.step_alone().expect("steps"));
            assert!(
                (a.loss - b.loss).abs() < f64::from(bound) * b.loss,
                "{precision:?}: {a:?} against {b:?}"
            );
            assert!(
                (a.gradient_norm - b.gradient_norm).abs() < 10.0 * f64::from(bound) * b.gradient_norm,
                "{precision:?}: {a:?}, {b:?}"
            );
        }
        // AdamW's first steps have the size of the rate, whatever the gradient's: the moves are compared, not
        // the weights.
        let moved = |trainer: &Trainer| -> Vec<f32> {
            trainer
                .weights()
                .expect("reads")
                .iter()
                .zip(&before)
                .map(|(after, before)| after - before)
                .collect()
        };
        let found = off(&moved(&there), &moved(&host));
        assert!(found < 200.0 * bound, "{precision:?}: moves are off by {found}");

        let mut files = BTreeMap::new();
        let put = |name: &str, bytes: &[u8]| {
            files.insert(name.to_owned(), bytes.to_vec());
            Ok(())
        };
        let (manifest, bytes) = there.snapshot(None).expect("is taken").write(put).expect("writes");
        assert_eq!(CheckpointManifest::from_bytes(&bytes).expect("reads"), manifest);
        let read = |file: &checkpoint::CheckpointFile| {
            files.get(&file.name).cloned().ok_or_else(|| "there is no such file".to_owned())
        };
        let all = |trainer: &Trainer| (trainer.weights().expect("reads"), trainer.moments().expect("reads"));
        for device in [&gpu, &Device::Cpu] {
            let mut resumed = trainer(precision, 2, device);
            resumed.restore(&manifest, &read).expect("restores");
            assert!(
                all(&resumed) == all(&there),
                "{precision:?}: a checkpoint holds what was held, bit for bit"
            );
            if device.is_cuda() {
                let mut same = trainer(precision, 2, device);
                same.restore(&manifest, &read).expect("restores");
                assert_eq!(resumed.step_alone().expect("steps"), same.step_alone().expect("steps"));
                assert!(
                    all(&resumed) == all(&same),
                    "{precision:?}: a step is a function of what it begins with"
                );
            }
        }
    }
}

#[test]
fn a_memory_that_is_too_small_is_named_with_what_was_needed() {
    let Some(gpu) = gpu() else { return };
    let trainer = trainer(Precision::F32, 1, &gpu);
    // Some 170 GB of activations, of which no single one has more numbers than a kernel of candle's counts
    // (2^32).
    let sequences = 1 << 17;
    let places: Vec<u64> = (0..sequences).map(|place| place % 64).collect();
    let batch = trainer.dataset().batch(&places).expect("reads");
    let told = trainer.gradients_of(&batch, 0).expect_err("has no room").to_string();
    for part in ["out of memory", "activations of 131072 sequences of 64", "the device has"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(is_out_of_memory(&told));
    // What was asked for is given back: a microbatch that fits still does.
    let few = trainer.dataset().batch(&places[..2]).expect("reads");
    trainer.gradients_of(&few, 0).expect("has room");
}
