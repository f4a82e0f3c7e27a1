//! Masks, packing, preferences and adapters, through the whole trainer.

use super::super::*;
use crate::model::layer::LoraAdapter;
use crate::model::store::InitialWeight;
use crate::model::weights::{drawn, initial, split_flat};
use crate::model::{Decoder, ModelConfig, Precision, WeightRole, WeightStore};
use candle_core::Device;
use muster_data::documents::Entry;
use muster_data::pack::TooLong;
use muster_data::shard::{DocumentKind, Sequence, Shard, ShardIndex, ShardWriter};
use muster_host::compute::Compute;
use std::sync::Arc;

const CONTEXT: usize = 16;

fn compute() -> Compute {
    Compute::new(1).expect("starts")
}

fn small() -> ModelConfig {
    ModelConfig {
        vocab_size: 16,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        max_position_embeddings: CONTEXT,
        ..ModelConfig::default()
    }
}

fn full() -> Decoder {
    Decoder::trained(small(), &initial(&small(), 1)).expect("builds")
}

fn corpus(documents: &[(DocumentKind, Vec<Sequence>)]) -> Arc<Corpus> {
    let index = ShardIndex {
        name: "s".to_owned(),
        vocab_size: 16,
        tokenizer: "t".to_owned(),
        ..ShardIndex::default()
    };
    let mut writer = ShardWriter::of(index);
    let entry = Entry { path: "p".to_owned(), hash: "h".to_owned(), bytes: 1, ..Entry::default() };
    for (kind, sequences) in documents {
        writer.push(&entry, *kind, sequences).expect("fits");
    }
    let shard: Shard = writer.finish().expect("is sound");
    Arc::new(Corpus::new(vec![shard]).expect("joins"))
}

/// A prompt of three tokens, and `answer`.
fn answered(first: u32, answer: &[u32]) -> Sequence {
    let tokens: Vec<u32> =
        [first % 16, 3, (first * 5) % 16].into_iter().chain(answer.iter().copied()).collect();
    let learnt = (0..tokens.len()).map(|at| at >= 3).collect();
    Sequence { tokens, learnt }
}

fn chats() -> Arc<Corpus> {
    let chat = |i: u32| {
        let answer: Vec<u32> = (0..1 + i * 7 % 10).map(|at| (i + at) % 16).collect();
        (DocumentKind::Chat, vec![answered(i, &answer)])
    };
    corpus(&(0..40).map(chat).collect::<Vec<_>>())
}

fn preferences() -> Arc<Corpus> {
    let pair = |i: u32| {
        (DocumentKind::Preference, vec![answered(i, &[i % 16, 7, 7]), answered(i, &[i % 16, 9, 9, 9])])
    };
    corpus(&(0..12).map(pair).collect::<Vec<_>>())
}

fn config(microbatches: usize, sequences: usize) -> TrainConfig {
    TrainConfig {
        steps: 30,
        microbatches,
        sequences,
        warmup_steps: 0,
        learning_rate: 1e-2,
        ..TrainConfig::default()
    }
}

#[test]
fn a_token_counts_the_same_however_the_batch_is_divided() {
    let packed: Arc<dyn Dataset> =
        Arc::new(PackedSequences::new(chats(), CONTEXT, 0, TooLong::Error).expect("packs"));
    let run = |microbatches, sequences| {
        let mut trainer =
            Trainer::new(config(microbatches, sequences), full(), Arc::clone(&packed), compute())
                .expect("starts");
        let reports: Vec<_> = (0..3).map(|_| trainer.step_alone().expect("steps")).collect();
        (reports, trainer.weights().expect("reads"))
    };
    let (whole, weights) = run(1, 8);
    assert!(whole[0].counted < whole[0].tokens, "the microbatches count unequal numbers: {:?}", whole[0]);
    for (microbatches, sequences) in [(2, 4), (8, 1)] {
        let (reports, others) = run(microbatches, sequences);
        for (a, b) in whole.iter().zip(&reports) {
            assert_eq!((a.counted, &a.samples), (b.counted, &b.samples));
            assert!(
                (a.loss - b.loss).abs() < 1e-4 * a.loss
                    && (a.gradient_norm - b.gradient_norm).abs() < 1e-3 * a.gradient_norm,
                "{a:?} {b:?}"
            );
        }
        // Where a gradient is nearly zero, AdamW's first steps make much of its last bits: so not the
        // greatest difference, but the mean.
        let off = weights.iter().zip(&others).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>()
            / weights.len() as f64;
        assert!(off < 1e-4, "off by {off}");
    }
}

#[test]
fn packed_windows_learn_answers_only_and_end_at_documents() {
    let packed = PackedSequences::new(chats(), CONTEXT, 15, TooLong::Error).expect("packs");
    let places: Vec<u64> = (0..packed.info().samples).collect();
    let batch = packed.batch(&places).expect("reads");
    batch.validate().expect("is sound");
    let answers: usize = (0..40).map(|i| 1 + i * 7 % 10).sum();
    assert_eq!(batch.counted(), answers);
    let starts = batch.starts.as_ref().expect("are packed");
    assert!(starts.iter().enumerate().any(|(at, start)| *start > 0 && at % CONTEXT > *start as usize));
    let mut broken = batch.clone();
    broken.starts = Some(vec![1; starts.len()]);
    assert!(
        broken.validate().expect_err("looks ahead").to_string().contains("a start behind its own position")
    );
    broken.tokens.pop();
    assert!(broken.validate().expect_err("is short").to_string().contains("tokens"));
}

#[test]
fn preferences_are_learnt_against_the_model_that_was() {
    let (model, compute) = (full(), compute());
    let pairs = PreferencePairs::against(preferences(), CONTEXT, &model, &compute).expect("measures");
    assert!(pairs.reference().iter().flatten().all(|x| *x < -5.0 && *x > -20.0), "{:?}", pairs.reference());
    let again = PreferencePairs::new(preferences(), CONTEXT, pairs.reference().to_vec()).expect("fits");
    let places = [3, 1];
    assert_eq!(pairs.batch(&places).expect("reads"), again.batch(&places).expect("reads"));

    let config =
        TrainConfig { objective: Objective::Preference { beta: 0.3, label_smoothing: 0.0 }, ..config(2, 3) };
    let mut trainer = Trainer::new(config, model, Arc::new(pairs), compute).expect("starts");
    let reports: Vec<_> = (0..30).map(|_| trainer.step_alone().expect("steps")).collect();
    let (first, last) = (&reports[0], &reports[29]);
    assert!(
        (first.loss - std::f64::consts::LN_2).abs() < 1e-4
            && first.preference.is_some_and(|[margin, _]| margin.abs() < 1e-4),
        "{first:?}"
    );
    assert_eq!((first.counted, first.tokens), (6, 6 * 2 * 6));
    assert!(
        last.loss < 0.3 && last.preference.is_some_and(|[margin, right]| margin > 1.0 && right == 1.0),
        "{last:?}"
    );

    let table = [
        (PreferencePairs::new(chats(), CONTEXT, Vec::new()).err(), "the corpus holds no preferences"),
        (
            PreferencePairs::new(preferences(), 5, Vec::new()).err(),
            "the rejected answer of pair 0 takes 6 positions, more than the context of 5",
        ),
        (PreferencePairs::new(preferences(), CONTEXT, vec![[0.0; 2]; 3]).err(), "for 12 pairs"),
    ];
    for (error, expected) in table {
        let message = error.expect(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
}

/// A frozen base with low-rank additions to the queries, and a trained weight that nothing uses if `stray`.
fn lora(scale: f64, stray: bool) -> Decoder {
    let mut all =
        split_flat(&small(), &initial(&small(), 1), WeightRole::Frozen(Precision::F32)).expect("fits");
    let mut add = |name: &str, shape: [usize; 2], numbers: Vec<f32>| {
        all.push(InitialWeight {
            name: name.to_owned(),
            shape: shape.to_vec(),
            numbers,
            role: WeightRole::Trained,
        });
    };
    for layer in 0..2 {
        add(&format!("lora.{layer}.a"), [2, 16], drawn(1, &format!("a{layer}"), 32, 0.2));
        add(&format!("lora.{layer}.b"), [16, 2], vec![0.0; 32]);
    }
    if stray {
        add("stray", [2, 2], vec![0.0; 4]);
    }
    let mut model =
        Decoder::new(small(), WeightStore::new(all, Precision::F32, &Device::Cpu).expect("is sound"))
            .expect("builds");
    let get = |model: &Decoder, name: String| model.store().get(&name).expect("is there");
    let weights: Vec<_> = (0..2u64)
        .map(|layer| (get(&model, format!("lora.{layer}.a")), get(&model, format!("lora.{layer}.b"))))
        .collect();
    for ((block, (a, b)), site) in model.layers_mut().zip(weights).zip(0..) {
        block.projections_mut()[0].lora = Some(LoraAdapter { a, b, scale, dropout: 0.1, site });
    }
    model
}

#[test]
fn an_adapter_learns_alone_and_is_kept_alone() {
    let windows: Arc<dyn Dataset> =
        Arc::new(PackedSequences::new(chats(), CONTEXT, 0, TooLong::Error).expect("packs"));
    let start = |model| Trainer::new(config(2, 2), model, Arc::clone(&windows), compute());
    let mut trainer = start(lora(2.0, false)).expect("starts");
    assert_eq!(trainer.parameter_count(), 128);
    for _ in 0..3 {
        trainer.step_alone().expect("steps");
    }
    let mut files = std::collections::BTreeMap::new();
    let snapshot = trainer.snapshot(None).expect("is taken");
    let names: Vec<_> = snapshot.slots().iter().map(|slot| slot.name.clone()).collect();
    assert_eq!(names, ["lora.0.a", "lora.0.b", "lora.1.a", "lora.1.b"]);
    let snapshot = snapshot.with([("adapter_config.json".to_owned(), b"{}".to_vec())]);
    let put = |name: &str, bytes: &[u8]| {
        files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    };
    let (manifest, _) = snapshot.write(put).expect("writes");
    let names: Vec<_> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["adapter_config.json", "optimizer-00001-of-00001.safetensors", "trained.safetensors"]);
    let read = |file: &checkpoint::CheckpointFile| files.get(&file.name).cloned().ok_or_else(String::new);
    assert!(
        checkpoint::model(&manifest, &read)
            .expect_err("is an adapter")
            .to_string()
            .contains("the base is not in it")
    );

    let mut resumed = start(lora(2.0, false)).expect("starts");
    resumed.restore(&manifest, &read).expect("restores");
    for _ in 0..3 {
        let (a, b) = (trainer.step_alone().expect("steps"), resumed.step_alone().expect("steps"));
        assert_eq!(a, b);
    }
    assert_eq!(resumed.weights().expect("reads"), trainer.weights().expect("reads"));
    assert!(
        Trainer::new(config(2, 2), full(), Arc::clone(&windows), compute())
            .expect("starts")
            .restore(&manifest, &read)
            .is_err()
    );
}

#[test]
fn a_weight_that_would_never_learn_is_named() {
    let windows: Arc<dyn Dataset> =
        Arc::new(PackedSequences::new(chats(), CONTEXT, 0, TooLong::Error).expect("packs"));
    let start = |model| Trainer::new(config(2, 2), model, Arc::clone(&windows), compute());
    assert_eq!(
        start(lora(2.0, true)).err().expect("is seen at the start").to_string(),
        "find a gradient for stray"
    );
    let frozen = Decoder::new(
        small(),
        WeightStore::new(
            split_flat(&small(), &initial(&small(), 1), WeightRole::Frozen(Precision::F32)).expect("fits"),
            Precision::F32,
            &Device::Cpu,
        )
        .expect("is sound"),
    );
    assert!(
        start(frozen.expect("builds"))
            .err()
            .expect("is seen at the start")
            .to_string()
            .contains("no weight of the model is trained")
    );
    // One of the additions is scaled to nothing, so its two factors get gradients that are zeros for ever.
    let mut deaf = lora(2.0, false);
    if let Some(lora) = deaf.layers_mut().next().and_then(|block| block.projections_mut()[0].lora.as_mut()) {
        lora.scale = 0.0;
    }
    let mut trainer = start(deaf).expect("starts");
    trainer.step_alone().expect("the first step can't tell");
    assert_eq!(trainer.step_alone().expect_err("the second can").to_string(), "find a gradient for lora.0.a");
}

#[test]
fn a_global_batch_without_anything_to_learn_moves_nothing() {
    let mut trainer = Trainer::new(
        config(1, 2),
        full(),
        Arc::new(TextWindows::new(chats(), CONTEXT, true).expect("cuts")),
        compute(),
    )
    .expect("starts");
    trainer.step_alone().expect("steps");
    let before = trainer.weights_hash().expect("reads");
    let mut batch = trainer.batch(&trainer.plan()[0]).expect("reads");
    batch.targets.fill(crate::ops::linear_cross_entropy::IGNORE_INDEX);
    let silent = trainer.gradients_of(&batch, 0).expect("computes");
    let report = trainer.apply(1, silent).expect("goes on");
    assert_eq!((report.counted, report.loss, report.gradient_norm), (0, 0.0, 0.0));
    assert_eq!((trainer.weights_hash().expect("reads"), trainer.step()), (before, 2));
}
