//! Training as a whole: it learns, it resumes, and the number of ranks changes no bit.

mod device;
mod oracle;
mod sources;

use super::*;
use crate::device::Backend;
use crate::model::weights::{initial, split_flat};
use crate::model::{Decoder, ModelConfig, Precision, WeightRole, WeightStore};
use crate::parallel::{Tree, shares};
use candle_core::Device;
use muster_data::documents::Entry;
use muster_data::shard::{DocumentKind, Sequence, Shard, ShardIndex, ShardWriter};
use muster_host::compute::Compute;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A shard of one document, made without a tokenizer.
pub(crate) fn shard(tokens: &[u16], vocab_size: u32) -> Shard {
    let index =
        ShardIndex { name: "s".to_owned(), vocab_size, tokenizer: "t".to_owned(), ..ShardIndex::default() };
    let mut writer = ShardWriter::of(index);
    let entry = Entry { path: "p".to_owned(), hash: "h".to_owned(), bytes: 9, ..Entry::default() };
    let tokens = tokens.iter().map(|token| u32::from(*token)).collect();
    writer.push(&entry, DocumentKind::Text, &[Sequence { tokens, learnt: Vec::new() }]).expect("fits");
    writer.finish().expect("is sound")
}

/// A pattern that a small model learns: each token determines the next, except every fifth.
fn corpus() -> Arc<Corpus> {
    let tokens: Vec<u16> =
        (0..400u32).map(|i| if i % 5 == 0 { (i * i % 7) as u16 } else { (i % 5 + 7) as u16 }).collect();
    let halves = tokens.split_at(150);
    Arc::new(Corpus::new(vec![shard(halves.0, 16), shard(halves.1, 16)]).expect("joins"))
}

fn windows() -> Arc<dyn Dataset> {
    Arc::new(TextWindows::new(corpus(), 16, false).expect("has windows"))
}

fn small() -> ModelConfig {
    ModelConfig {
        vocab_size: 16,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        max_position_embeddings: 16,
        ..ModelConfig::default()
    }
}

fn model(precision: Precision) -> Decoder {
    let config = small();
    let arrays = split_flat(&config, &initial(&config, 1), WeightRole::Trained).expect("fits");
    Decoder::new(config, WeightStore::new(arrays, precision, &Device::Cpu).expect("is sound"))
        .expect("builds")
}

fn config() -> TrainConfig {
    TrainConfig {
        steps: 60,
        microbatches: 4,
        sequences: 2,
        warmup_steps: 5,
        learning_rate: 1e-2,
        ..TrainConfig::default()
    }
}

fn compute() -> Compute {
    Compute::new(1).expect("starts")
}

fn start(config: TrainConfig) -> Trainer {
    start_with(config, Backend::Fused)
}

fn start_with(config: TrainConfig, backend: Backend) -> Trainer {
    let mut model = model(config.precision);
    model.set_backend(backend);
    Trainer::new(config, model, windows(), compute()).expect("starts")
}

/// One step with as many ranks as speeds, which share the microbatches by them.
fn step_by(ranks: &mut [Trainer], speeds: &[u64]) -> StepReport {
    let (at, microbatches) = (ranks[0].step(), ranks[0].config().microbatches);
    let mut sum = Tree::new(microbatches);
    for (trainer, range) in ranks.iter().zip(shares(microbatches, speeds).expect("fits")) {
        for partial in trainer.loss_and_gradients(at, range).expect("computes") {
            sum.push(partial, GradientSum::add).expect("is in order");
        }
    }
    let sum = sum.total().expect("is whole");
    let reports = ranks.iter_mut().map(|trainer| trainer.apply(at, sum.clone()).expect("applies"));
    reports.last().expect("there is a rank")
}

fn step(ranks: &mut [Trainer]) -> StepReport {
    step_by(ranks, &vec![1; ranks.len()])
}

fn ranks(world: usize) -> Vec<Trainer> {
    (0..world).map(|_| start(config())).collect()
}

fn only(start: u64, end: u64) -> Vec<std::ops::Range<u64>> {
    std::iter::once(start..end).collect()
}

type Files = BTreeMap<String, Vec<u8>>;

fn save(trainer: &Trainer) -> (CheckpointManifest, Files) {
    let mut files = Files::new();
    let put = |name: &str, bytes: &[u8]| {
        files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    };
    let (manifest, bytes) =
        trainer.snapshot(Some("before".to_owned())).expect("is taken").write(put).expect("writes");
    assert_eq!(files[checkpoint::MANIFEST], bytes);
    assert_eq!(CheckpointManifest::from_bytes(&bytes).expect("reads"), manifest);
    (manifest, files)
}

fn reader(files: &Files) -> impl Fn(&checkpoint::CheckpointFile) -> Result<Vec<u8>, String> {
    |file| files.get(&file.name).cloned().ok_or_else(|| "there is no such file".to_owned())
}

#[test]
fn a_tiny_corpus_is_learnt() {
    let mut one = ranks(1);
    let reports: Vec<StepReport> = (0..60).map(|_| step(&mut one)).collect();
    assert!((reports[0].loss - 16f64.ln()).abs() < 0.2, "{:?}", reports[0]);
    assert!(reports[59].loss < 0.6, "{:?}", reports[59]);
    assert_eq!((reports[3].tokens, reports[3].counted, reports[3].preference), (128, 128, None));
    assert_eq!(reports[3].samples, only(24, 32));
    let over = one[0].loss_and_gradients(60, 0..1).expect_err("is over").to_string();
    assert!(over.contains("60 steps is over"), "{over}");
}

#[test]
fn masters_in_f32_let_bf16_learn() {
    let bf16 = TrainConfig { precision: Precision::Bf16, ..config() };
    let (mut rounded, mut exact) = (vec![start(bf16.clone())], ranks(1));
    let reports: Vec<_> = (0..60).map(|_| (step(&mut rounded).loss, step(&mut exact).loss)).collect();
    let (first, last) = (reports[0], reports[59]);
    assert!((first.0 - first.1).abs() < 1e-2 && first.0 != first.1, "{first:?}");
    assert!(last.0 < 0.6 && (last.0 - last.1).abs() < 0.1, "{last:?}");
    // What the model holds is rounded, what is learnt is not.
    let held = rounded[0].model().store().trained().expect("reads");
    let masters = rounded[0].weights().expect("reads");
    assert!(held.iter().zip(&masters).all(|(held, master)| *held == half::bf16::from_f32(*master).to_f32()));
    assert_ne!(held, masters);

    let (manifest, files) = save(&rounded[0]);
    let mut resumed = start(bf16);
    resumed.restore(&manifest, &reader(&files)).expect("restores");
    assert_eq!(resumed.weights().expect("reads"), masters);
    assert_eq!(resumed.model().store().trained().expect("reads"), held);
}

#[test]
fn any_number_of_ranks_with_any_shares_gets_the_same_weights() {
    for microbatches in [4, 5] {
        let config = TrainConfig { microbatches, ..config() };
        let table: [&[u64]; 6] = [&[1], &[1, 1], &[3, 1], &[1, 4], &[1, 2, 1], &[1, 1, 1, 1]];
        let hashes = table.map(|speeds| {
            let mut ranks: Vec<Trainer> = speeds.iter().map(|_| start(config.clone())).collect();
            let losses: Vec<u64> = (0..3).map(|_| step_by(&mut ranks, speeds).loss.to_bits()).collect();
            let hash = |rank: &Trainer| rank.weights_hash().expect("reads");
            assert!(ranks.iter().all(|rank| hash(rank) == hash(&ranks[0])));
            (losses, hash(&ranks[0]))
        });
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{microbatches}: {hashes:?}");
    }
}

#[test]
fn a_resumed_run_is_the_undisturbed_one() {
    let mut undisturbed = ranks(1);
    for _ in 0..3 {
        step(&mut undisturbed);
    }
    let (manifest, files) = save(&undisturbed[0]);
    assert_eq!(
        (manifest.state.step, manifest.state.cursor, manifest.parent.as_deref()),
        (3, 24, Some("before"))
    );
    assert_eq!((manifest.clone(), files.clone()), save(&undisturbed[0]));
    for _ in 0..3 {
        step(&mut undisturbed);
    }
    // On two ranks, though one has written it.
    let mut resumed = ranks(2);
    for rank in &mut resumed {
        rank.restore(&manifest, &reader(&files)).expect("restores");
    }
    for _ in 0..3 {
        step(&mut resumed);
    }
    assert_eq!(save(&resumed[1]), save(&undisturbed[0]));

    let (shape, weights) = checkpoint::model(&manifest, &reader(&files)).expect("reads");
    // The layout says the width of a head where we let it follow.
    let shape = ModelConfig { head_dim: None, ..shape };
    assert_eq!((shape, weights.len()), (small(), resumed[0].parameter_count()));
    assert_eq!(manifest.differs(1), None);
    assert!(manifest.differs(2).is_some_and(|why| why.contains("1 threads, and goes on with")));
}

#[test]
fn a_checkpoint_of_another_run_or_damaged_is_refused_and_changes_nothing() {
    let (manifest, files) = save(&ranks(1)[0]);
    let shorter: Arc<dyn Dataset> = Arc::new(
        TextWindows::new(Arc::new(Corpus::new(vec![shard(&[1; 90], 16)]).expect("joins")), 16, false)
            .expect("has windows"),
    );
    let of = |config: TrainConfig, samples| {
        Trainer::new(config, model(Precision::F32), samples, compute()).expect("starts")
    };
    let optimizer = "optimizer-00001-of-00001.safetensors";
    let changed = |name: &str, change: fn(&mut Vec<u8>)| {
        let mut files = files.clone();
        change(files.get_mut(name).expect("is there"));
        files
    };
    let without = |name: &str| {
        files
            .iter()
            .filter(|(file, _)| *file != name)
            .map(|(file, bytes)| (file.clone(), bytes.clone()))
            .collect()
    };
    let table: [(Trainer, Files, &str); 6] = [
        (of(TrainConfig { seed: 2, ..config() }, windows()), files.clone(), "other parameters"),
        (of(config(), shorter), files.clone(), "other data"),
        (
            of(config(), windows()),
            changed(optimizer, |bytes| bytes[3000] ^= 1),
            "optimizer-00001-of-00001.safetensors is damaged",
        ),
        (
            of(config(), windows()),
            changed("model.safetensors", |bytes| bytes.truncate(99)),
            "model.safetensors is damaged: 99 bytes",
        ),
        (of(config(), windows()), without("model.safetensors"), "model.safetensors: there is no such file"),
        (of(config(), windows()), without(optimizer), "there is no such file"),
    ];
    for (mut trainer, files, expected) in table {
        let before = (trainer.weights_hash().expect("reads"), trainer.state().clone());
        let message = trainer.restore(&manifest, &reader(&files)).expect_err(expected).to_string();
        assert!(message.starts_with("read the checkpoint: ") && message.contains(expected), "{message}");
        assert_eq!((trainer.weights_hash().expect("reads"), trainer.state().clone()), before);
    }
    let text = String::from_utf8(files[checkpoint::MANIFEST].clone()).expect("is text");
    let table = [
        (String::new(), "its manifest"),
        (text.replace("\"version\": 2", "\"version\": 1"), "version 1"),
        (text.replace("\"step\": 0", "\"step\": 61"), "step 61 of 60"),
        (text.replace("\"beta1\": 0.9", "\"beta1\": 9.0"), "beta1 is out of bounds"),
        (text.replace("\"skipped\": []", "\"skipped\": [{\"start\": 4, \"end\": 4}]"), "without [4..4]"),
    ];
    for (text, expected) in table {
        let message = CheckpointManifest::from_bytes(text.as_bytes()).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
    let full =
        ranks(1)[0].snapshot(None).expect("is taken").write(|name, _| Err(format!("no room for {name}")));
    assert_eq!(
        full.expect_err("is full").to_string(),
        "write the checkpoint's config.json: no room for config.json"
    );
}

#[test]
fn what_would_ruin_the_weights_is_refused_and_changes_nothing() {
    let mut trainer = ranks(1).remove(0);
    let before = trainer.weights_hash().expect("reads");
    let count = trainer.parameter_count();
    let sums = LossSums { loss: 1.0, counted: 1.0, ..LossSums::default() };
    let mut wild = vec![0f32; count];
    wild[7] = f32::NAN;
    let given = |sums: LossSums, flat: &[f32]| GradientSum { sums, flat: flat.to_vec().into() };
    let table = [
        (trainer.apply(0, given(sums, &wild)), "the gradient's norm is NaN"),
        (
            trainer.apply(0, given(LossSums { loss: f64::INFINITY, ..sums }, &vec![0.0; count])),
            "the loss is inf",
        ),
        (trainer.apply(1, given(sums, &wild)), "apply step 1"),
        (trainer.apply(0, given(sums, &wild[1..])), "numbers for"),
    ];
    for (result, expected) in table {
        let message = result.expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!((trainer.weights_hash().expect("reads"), trainer.step()), (before, 0));
    for range in [0..0, 2..5] {
        assert!(trainer.loss_and_gradients(0, range).is_err());
    }
}

#[test]
fn what_is_skipped_is_never_used_and_is_part_of_the_state() {
    let mut trainer = ranks(1).remove(0);
    assert_eq!(trainer.plan(), [only(0, 2), only(2, 4), only(4, 6), only(6, 8)]);
    trainer.skip(3..7).expect("is to come");
    assert_eq!(trainer.plan(), [only(0, 2), vec![2..3, 7..8], only(8, 10), only(10, 12)]);
    let report = step(std::slice::from_mut(&mut trainer));
    assert_eq!(report.samples, [0..3, 7..12]);
    assert_eq!(
        trainer.skip(3..20).expect_err("was used").to_string(),
        "use the parameters: samples 3..20 can't be skipped: the next is 12"
    );
    let (manifest, files) = save(&trainer);
    let mut resumed = ranks(1).remove(0);
    resumed.restore(&manifest, &reader(&files)).expect("restores");
    assert_eq!(resumed.state(), &TrainState { step: 1, cursor: 12, skipped: only(3, 7) });
    // A batch that is given by a loader is the one that the trainer would have read.
    let plan = &resumed.plan()[0];
    let batch = resumed.batch(plan).expect("reads");
    let given = resumed.gradients_of(&batch, plan[0].start).expect("computes");
    assert!(given == resumed.loss_and_gradients(1, 0..1).expect("computes").remove(0).values);
}

/// A guard's verdict carried out: back to the checkpoint, and round the samples that do harm.
#[test]
fn a_run_goes_round_samples_that_ruin_it() {
    let (guard, mut trainer) = (SpikeGuard::default(), ranks(1).remove(0));
    let poisoned = 42;
    let (mut kept, mut points, mut decisions) = (BTreeMap::new(), Vec::new(), Vec::new());
    while trainer.step() < 12 {
        let at = trainer.step();
        if at.is_multiple_of(3) {
            kept.insert(at, save(&trainer));
        }
        let plan = trainer.plan().concat();
        let mut total = Tree::new(4);
        for partial in trainer.loss_and_gradients(at, 0..4).expect("computes") {
            total.push(partial, GradientSum::add).expect("is in order");
        }
        let mut total = total.total().expect("is whole");
        if plan.iter().any(|range| range.contains(&poisoned)) {
            total.sums.loss = f64::NAN;
        }
        points.push(match trainer.apply(at, total) {
            Ok(report) => guard::LossPoint::of(&report),
            Err(Error::NotFinite { .. }) => guard::LossPoint::failed(at, &plan),
            Err(error) => panic!("{error}"),
        });
        match guard.judge(&points, &kept.keys().copied().collect::<Vec<_>>()) {
            GuardVerdict::Fine => {}
            GuardVerdict::RollBack { to: Some(to), skip, reason } => {
                let (manifest, files) = &kept[&to];
                trainer.restore(manifest, &reader(files)).expect("restores");
                trainer.skip(skip.clone()).expect("is to come");
                points.retain(|point| point.step < to);
                decisions.push((to, skip, reason.to_string()));
            }
            verdict @ GuardVerdict::RollBack { to: None, .. } => panic!("there are checkpoints: {verdict:?}"),
        }
    }
    assert_eq!(decisions, [(3, 32..48, "the loss or the gradient is not finite".to_owned())]);
    assert_eq!(trainer.state(), &TrainState { step: 12, cursor: 112, skipped: only(32, 48) });
}

/// Replicas that take turns on one trainer get the result of a trainer each.
#[test]
fn replicas_take_turns_on_one_trainer() {
    let alone = |share: std::ops::Range<usize>| {
        let mut trainer = ranks(1).remove(0);
        for step in 0..3 {
            let part = trainer.loss_and_gradients(step, share.clone()).expect("computes").remove(0).values;
            trainer.apply(step, part).expect("applies");
        }
        (trainer.weights().expect("reads"), trainer.take_moments().expect("reads"))
    };
    let mut shared = ranks(1).remove(0);
    let (begin, weights) = (shared.state().clone(), shared.weights().expect("reads"));
    for share in [0..2, 2..4] {
        shared.put(begin.clone(), &weights, adamw::Moments::zero(weights.len())).expect("fits");
        for step in 0..3 {
            let part = shared.loss_and_gradients(step, share.clone()).expect("computes").remove(0).values;
            shared.apply(step, part).expect("applies");
        }
        assert_eq!((shared.weights().expect("reads"), shared.take_moments().expect("reads")), alone(share));
    }
    let short = shared.put(begin, &weights[1..], adamw::Moments::zero(weights.len()));
    assert!(short.expect_err("is short").to_string().contains("numbers at step 0"));
}

#[test]
fn parameters_that_do_not_fit_are_named() {
    type Break = fn(&mut TrainConfig);
    let table: [(&str, Break); 6] = [
        ("microbatches is out of bounds: it must be from 1 to 4096", |c| c.microbatches = 0),
        ("learning_rate", |c| c.learning_rate = f64::NAN),
        ("beta2", |c| c.beta2 = 1.0),
        ("decay_steps", |c| c.decay_steps = 56),
        ("the model is held in F32, and `precision` wants BF16", |c| c.precision = Precision::Bf16),
        ("the objective is for preferences", |c| {
            c.objective = Objective::Preference { beta: 0.1, label_smoothing: 0.0 }
        }),
    ];
    for (expected, break_it) in table {
        let mut config = config();
        break_it(&mut config);
        let message = Trainer::new(config, model(Precision::F32), windows(), compute())
            .err()
            .expect(expected)
            .to_string();
        assert!(message.contains(expected), "{message}");
    }
    let longer = Arc::new(TextWindows::new(corpus(), 17, false).expect("has windows"));
    let stranger = Arc::new(Corpus::new(vec![shard(&[1; 90], 17)]).expect("joins"));
    let stranger = Arc::new(TextWindows::new(stranger, 16, false).expect("has windows"));
    let table: [(Arc<dyn Dataset>, &str); 2] = [
        (longer, "sequences of 17 are longer than the model's context of 16"),
        (stranger, "a vocabulary of 17 for a model of 16"),
    ];
    for (samples, expected) in table {
        let message = Trainer::new(config(), model(Precision::F32), samples, compute())
            .err()
            .expect(expected)
            .to_string();
        assert!(message.contains(expected), "{message}");
    }
    let empty = Arc::new(Corpus::new(vec![shard(&[1; 16], 16)]).expect("joins"));
    assert!(
        TextWindows::new(empty, 16, false)
            .err()
            .expect("is short")
            .to_string()
            .contains("16 tokens are too few")
    );
}

#[test]
fn a_corpus_reads_across_its_shards() {
    let corpus =
        Corpus::new(vec![shard(&[1, 2, 3], 9), shard(&[4, 5], 9), shard(&[6, 1, 8], 9)]).expect("joins");
    let table: [(u64, usize, &[u32]); 5] =
        [(0, 2, &[1, 2]), (2, 4, &[3, 4, 5, 6]), (3, 1, &[4]), (6, 9, &[1, 8]), (8, 3, &[])];
    for (start, count, expected) in table {
        assert_eq!(corpus.tokens(start, count), expected);
    }
    assert_eq!((corpus.len(), corpus.counts()), (8, vec![0, 2, 1, 1, 1, 1, 1, 0, 1]));
}
