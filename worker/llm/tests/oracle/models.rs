//! Checkpoints that transformers wrote: logits, losses, and the gradient of every weight.

use crate::recording::{Recording, close, directories, model, name};
use candle_core::DType;
use muster_llm::model::hub;
use muster_llm::model::{Decoder, ModelConfig};
use muster_llm::ops::BatchLayout;
use std::collections::BTreeMap;

/// Holds logits, loss and gradients of one recorded batch against ours.
fn batch(label: &str, model: &Decoder, recorded: &Recording, number: &str, labels: &str) {
    let (tokens, batch, time) = recorded.tokens(&format!("tokens{number}"));
    let rows = BatchLayout::new(batch, time);
    let logits = model
        .logits(&tokens, &rows)
        .and_then(|logits| Ok(logits.flatten_all()?.to_vec1::<f32>()?))
        .expect("computes");
    close(&format!("{label}: logits{number}"), &logits, recorded.floats(&format!("logits{number}")));

    let targets = recorded.targets(labels);
    let (loss, gradients) = model.gradients(&tokens, &targets, &rows, None, Vec::new()).expect("computes");
    let theirs = recorded.float(&format!("loss{number}")) as f32;
    close(&format!("{label}: loss{number}"), &[loss as f32], &[theirs]);
    assert_eq!(gradients.untouched().count(), 0, "{label}: every weight has a gradient");

    let flat = gradients.into_vec().expect("reads");
    let slots = model.store().slots();
    let prefix = format!("grad{number}.");
    let theirs: BTreeMap<_, _> = recorded.gradients(&prefix).collect();
    assert_eq!(
        theirs.keys().copied().collect::<Vec<_>>(),
        slots.iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>(),
        "{label}"
    );
    for slot in slots.iter() {
        let what = format!("{label}: {prefix}{}", slot.name);
        close(&what, &flat[slot.range()], theirs[slot.name.as_str()]);
    }
}

#[test]
fn logits_losses_and_gradients_are_those_of_pytorch() {
    for directory in directories("models") {
        let (label, model) = (name(&directory), model(&directory));
        let recorded = Recording::open(&directory.join("oracle.safetensors"));
        batch(&label, &model, &recorded, "", "tokens");
        batch(&label, &model, &recorded, "2", "labels2");
    }
}

#[test]
fn blocks_that_are_done_again_give_the_gradients_of_pytorch_too() {
    for directory in directories("models") {
        let mut model = model(&directory);
        model.set_checkpointing(true);
        batch(
            &name(&directory),
            &model,
            &Recording::open(&directory.join("oracle.safetensors")),
            "2",
            "labels2",
        );
    }
}

#[test]
fn what_is_saved_is_what_was_loaded() {
    for directory in directories("models") {
        let (config, flat) = hub::load_dir(&directory).expect("loads");
        let model = Decoder::trained(config.clone(), &flat).expect("builds");
        // One file, and several.
        for (shard_bytes, several) in [(hub::SHARD_BYTES, false), (8 << 10, true)] {
            let files = hub::save(&config, model.store(), DType::F32, shard_bytes).expect("saves");
            assert_eq!(
                files.iter().any(|(file, _)| file.ends_with("index.json")),
                several,
                "{}",
                directory.display()
            );
            let files: BTreeMap<_, _> = files.into_iter().collect();
            let (again, numbers): (ModelConfig, _) =
                hub::load(|file| Ok(files.get(file).cloned())).expect("loads what was saved");
            // The width of a head is always said, also where it follows from others.
            let said = ModelConfig { head_dim: Some(config.head_dim()), ..config.clone() };
            assert_eq!(again, said, "{}", directory.display());
            assert!(numbers == flat, "{}: the same bits", directory.display());
        }
    }
}
