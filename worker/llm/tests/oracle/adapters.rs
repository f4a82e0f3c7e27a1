//! Adapters that PEFT wrote: logits, losses, and the gradient of every weight; and the same weights when we
//! write them.

use crate::recording::{Recording, close, directories, name, shifted};
use candle_core::Device;
use muster_llm::model::hub::{self, NamedTensor};
use muster_llm::model::{Decoder, Precision};
use muster_llm::ops::BatchLayout;
use muster_llm::ops::linear_cross_entropy::LossTargets;
use muster_llm::peft::{MethodConfig, adapter, merge};
use std::fs;
use std::path::Path;

fn logits(model: &Decoder, tokens: &[u32], rows: &BatchLayout) -> Vec<f32> {
    model.logits(tokens, rows).and_then(|logits| Ok(logits.flatten_all()?.to_vec1()?)).expect("computes")
}

/// The adapter, and its base with it.
fn opened(directory: &Path) -> (Decoder, adapter::Adapter) {
    let about = fs::read(directory.join(adapter::CONFIG)).expect("is there");
    let about: serde_json::Value = serde_json::from_slice(&about).expect("is JSON");
    let base = directory.join(about["base_model_name_or_path"].as_str().expect("names its base"));
    let (config, flat) = hub::load_dir(&base).expect("loads");
    let adapter = adapter::load_dir(&config, directory).expect("loads");
    let model = adapter.build(config, flat, Precision::F32, &Device::Cpu).expect("builds");
    (model, adapter)
}

#[test]
fn adapters_of_peft_give_its_logits_losses_and_gradients() {
    for directory in directories("adapters") {
        let label = name(&directory);
        let (model, adapter) = opened(&directory);
        let recorded = Recording::open(&directory.join("oracle.safetensors"));
        let (tokens, batch, time) = recorded.tokens("tokens");
        let rows = BatchLayout::new(batch, time);
        close(&format!("{label}: logits"), &logits(&model, &tokens, &rows), recorded.floats("logits"));

        let targets = LossTargets::mean(shifted(recorded.integers("tokens").1, time));
        let (loss, gradients) =
            model.gradients(&tokens, &targets, &rows, None, Vec::new()).expect("computes");
        close(&format!("{label}: loss"), &[loss as f32], &[recorded.float("loss") as f32]);
        assert_eq!(gradients.untouched().count(), 0, "{label}: every weight has a gradient");
        let flat = gradients.into_vec().expect("reads");
        let found = adapter.method.method().to_peft(model.config(), model.store().slots(), &flat);
        assert_eq!(found.len(), recorded.gradients("grad.").count(), "{label}: as many as PEFT saved");
        for NamedTensor { name: weight, numbers, .. } in found {
            close(
                &format!("{label}: gradient of {weight}"),
                &numbers,
                recorded.floats(&format!("grad.{weight}")),
            );
        }
        if matches!(adapter.method, MethodConfig::Lora(_)) {
            let merged = merge(&model).expect("merges");
            close(
                &format!("{label}: merged"),
                &logits(&merged, &tokens, &rows),
                recorded.floats("merged.logits"),
            );
        }
    }
}

#[test]
fn what_we_write_of_them_is_what_peft_wrote() {
    for directory in directories("adapters") {
        let label = name(&directory);
        let (model, adapter) = opened(&directory);
        let trained = model.store().trained().expect("reads");
        let files = adapter::save(&adapter.method, &model, &trained, &adapter.base).expect("saves");
        let read =
            |name: &str| Ok(files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.clone()));
        let ours = read(adapter::WEIGHTS)
            .and_then(|bytes| hub::read_tensors("ours", &bytes.unwrap_or_default()))
            .expect("reads");
        let theirs = fs::read(directory.join(adapter::WEIGHTS)).expect("is there");
        assert_eq!(ours, hub::read_tensors("theirs", &theirs).expect("reads"), "{label}");
        assert_eq!(adapter::load(model.config(), read).expect("loads"), adapter, "{label}");
    }
}
