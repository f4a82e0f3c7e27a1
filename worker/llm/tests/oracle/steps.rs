//! Fifty steps of AdamW, as PyTorch made them on the same batches from the same weights.

use crate::recording::{Recording, directories, model, name, shifted};
use muster_llm::ops::Rows;
use muster_llm::ops::head_loss::Targets;
use muster_llm::train::TrainConfig;
use muster_llm::train::adamw::{self, Moments};
use serde_json::Value;
use std::fs;

/// How far a loss may be from PyTorch's, relative to it.
const LOSS_TOLERANCE: f64 = 1e-3;

fn config(run: &Value) -> TrainConfig {
    let number = |key: &str| run[key].as_f64().unwrap_or_else(|| panic!("{key} was recorded"));
    let whole = |key: &str| run[key].as_u64().unwrap_or_else(|| panic!("{key} was recorded"));
    TrainConfig {
        steps: whole("steps"),
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
        let recorded: Value = serde_json::from_slice(&fs::read(directory.join("fifty.json")).expect("reads")).expect("is JSON");
        let batches = Recording::open(&directory.join("fifty.safetensors"));
        let (shape, tokens) = batches.integers("tokens");
        let [count, batch, time] = *shape else { panic!("{label}: tokens have batches and rows") };
        let config = TrainConfig { model: model.config().clone(), ..config(&recorded["run"]) };
        let mut weights = model.store().trained().expect("reads");
        let mut moments = Moments::zero(weights.len());
        for step in 0..config.steps {
            let place = step as usize;
            let theirs = |key: &str| recorded[key][place].as_f64().unwrap_or_else(|| panic!("{key} of step {step} was recorded"));
            let tokens = tokens.chunks(batch * time).nth(place % count).expect("is there");
            let targets = Targets::mean(shifted(tokens, time));
            let tokens: Vec<u32> = tokens.iter().map(|token| *token as u32).collect();
            let (loss, gradients) = model.gradients(&tokens, &targets, &Rows::new(batch, time), None, Vec::new()).expect("computes");
            let apart = (loss - theirs("losses")).abs() / theirs("losses");
            assert!(apart <= LOSS_TOLERANCE, "{label}: step {step}: loss {loss}, theirs {}", theirs("losses"));

            let flat = gradients.into_flat().expect("reads");
            let norm = adamw::norm(&flat, 1.0);
            let apart = (norm - theirs("gradient_norms")).abs() / theirs("gradient_norms");
            assert!(apart <= 10.0 * LOSS_TOLERANCE, "{label}: step {step}: norm {norm}, theirs {}", theirs("gradient_norms"));
            let rate = adamw::learning_rate(&config, step);
            assert!((rate - theirs("learning_rates")).abs() <= 1e-12, "{label}: step {step}: rate {rate}");

            let clip = if norm > config.clip_norm { config.clip_norm / norm } else { 1.0 };
            adamw::update(&config, step, &mut weights, &mut moments, &flat, clip);
            model.store().set(&weights).expect("fits");
        }
        runs += 1;
    }
    assert!(runs > 0, "a run was recorded");
}
