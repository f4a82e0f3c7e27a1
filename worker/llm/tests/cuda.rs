//! What runs on a GPU, held against the CPU: losses and every gradient, in f32, and in bf16 as far as its digits go.
//!
//! Without a GPU it says so and checks nothing: the composed operations are held against the fused ones on the CPU elsewhere.
#![cfg(feature = "cuda")]

use muster_llm::compute::device;
use muster_llm::model::store::{Array, Hold};
use muster_llm::model::weights::{arrays, initial, slots};
use muster_llm::model::{Decoder, Family, ModelConfig, Precision, Store};
use muster_llm::ops::Rows;
use muster_llm::ops::head_loss::Targets;
use std::io::{self, Write as _};

fn run(config: &ModelConfig, arrays: &[Array], precision: Precision, name: &str) -> (f64, Vec<f32>) {
    let device = device(name).expect("was there before");
    let store = Store::new(arrays.to_vec(), precision, &device).expect("holds the weights");
    let model = Decoder::new(config.clone(), store).expect("builds");
    let tokens: Vec<u32> = (0..140).map(|i| (i * i * 31 + i * 7 + 1) % 61).collect();
    let targets: Vec<u32> = (0..140).map(|i| (i * i * 31 + i * 7 + 5) % 61).collect();
    let (loss, gradients) = model.gradients(&tokens, &Targets::mean(targets), &Rows::new(2, 70), None, Vec::new()).expect("runs");
    assert_eq!(gradients.untouched().count(), 0);
    (loss, gradients.into_flat().expect("reads"))
}

#[test]
fn a_gpu_gives_what_the_cpu_gives() {
    if let Err(reason) = device("cuda:0") {
        // If even this can't be said, the test still checks nothing.
        let _ = writeln!(io::stdout(), "skipped: failed to {reason}");
        return;
    }
    for model_type in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        let config = ModelConfig {
            model_type,
            vocab_size: 61,
            hidden_size: 32,
            intermediate_size: 40,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            initializer_range: 0.2,
            ..ModelConfig::default()
        };
        let flat: Vec<f32> = initial(&config, 5).iter().enumerate().map(|(i, x)| x + 0.1 * (i as f32).sin()).collect();
        let arrays = arrays(&config, &flat, Hold::Trained).expect("fits");
        let (loss, gradients) = run(&config, &arrays, Precision::F32, "cpu");
        for (precision, bound) in [(Precision::F32, 1e-4), (Precision::Bf16, 5e-2)] {
            let (found, theirs) = run(&config, &arrays, precision, "cuda:0");
            assert!((found - loss).abs() < f64::from(bound) * loss, "{model_type:?} {precision:?}: {found} against {loss}");
            for slot in slots(&config) {
                let (a, b) = (&theirs[slot.range()], &gradients[slot.range()]);
                let norm = b.iter().map(|x| x * x).sum::<f32>().sqrt();
                let off = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt();
                assert!(off <= bound * norm + 1e-6, "{model_type:?} {precision:?} {}: off by {off} of {norm}", slot.name);
            }
        }
    }
}
