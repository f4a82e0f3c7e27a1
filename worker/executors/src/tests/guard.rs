//! The loss guard in a job: a spike or a NaN rolls back to the last good checkpoint and skips its samples,
//! with a record in the log, and with the same bits for any number of ranks and after any kill.

use super::fake::Cluster;
use super::made::{
    artifacts, bodies, data_set, eval, hash, model_dir, prepared, refused, shape, train, weights,
};
use crate::model::{Model, tokenizer};
use crate::place::ModelPlace;
use muster_data::documents::Body;
use muster_llm::model::ModelConfig;
use muster_llm::model::hub::NamedTensor;
use muster_protocol::interval_set::IntervalSet;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::Path;

/// Three passes over the texts, so that the model has learnt them when the garbage comes.
const RUN: &str =
    r#""steps": 128, "microbatches": 4, "sequences": 1, "checkpoint_every": 8, "learning_rate": 0.01"#;

/// Texts that a model soon memorizes.
fn known() -> Vec<Body> {
    (0..36).map(|n| Body::Text("one two three four ".repeat(4 + n))).collect()
}

/// The same, and one of random words.
fn poisoned() -> Vec<Body> {
    let mut documents = known();
    documents[17] = Body::Text("~#0x9e}{^Q|Z@w;7c15\\K".to_owned());
    documents
}

fn decisions(cluster: &Cluster, stage: &str) -> Vec<Value> {
    bodies(cluster, stage, "guard/")
}

fn runs(value: &Value) -> IntervalSet<u64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Checks that no sample was both consumed and skipped, and that none is missing below the end.
fn accounted(cluster: &Cluster, stage: &str, planned: u64) {
    let of = |key: &str, member: &str| -> Vec<Range<u64>> {
        bodies(cluster, stage, key)
            .iter()
            .flat_map(|body| runs(&body[member]).ranges().collect::<Vec<_>>())
            .collect()
    };
    let consumed = IntervalSet::from_disjoint(of("round", "samples")).expect("no sample is consumed twice");
    assert_eq!(consumed.len(), planned);
    let mut left: Vec<u64> = of("guard/", "skipped").into_iter().flatten().collect();
    left.sort_unstable();
    left.dedup();
    let both = consumed.ranges().flatten().filter(|number| left.binary_search(number).is_ok()).count();
    assert_eq!(both, 0, "a skipped sample was consumed");
    let mut all: Vec<u64> = consumed.ranges().flatten().chain(left).collect();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..all.len() as u64), "a sample is missing: {all:?}");
}

#[test]
fn a_spike_goes_back_and_leaves_its_samples_out_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = prepared(dir.path(), poisoned());
    let run = format!(r#"{RUN}, "guard_deviations": 6.0, "guard_max": 8"#);
    for (name, ranks) in [("one", 1), ("again", 1), ("two", 2), ("killed", 2)] {
        train(&cluster, name, ranks, &run);
    }
    train(&cluster, "blind", 1, &format!(r#"{RUN}, "guard_deviations": 0.0"#));
    let one = weights(&cluster.succeed("one"));
    let found = decisions(&cluster, "one");
    assert!(!found.is_empty(), "there is garbage in the data");
    for decision in &found {
        assert_eq!(decision["decision"], "rollback");
        assert!(decision["why"].as_str().unwrap().starts_with("a loss of "), "{decision}");
        let (step, back_to) = (decision["step"].as_u64().unwrap(), decision["back_to"].as_u64().unwrap());
        assert!(back_to.is_multiple_of(8) && back_to <= step && step < back_to + 8, "{decision}");
        assert!(
            (4..=8).contains(&runs(&decision["skipped"]).len()),
            "a step or two are left out: {decision}"
        );
    }
    accounted(&cluster, "one", 512);
    // The steps after the checkpoint are repeated, so the metrics have them twice.
    let steps: Vec<u64> =
        bodies(&cluster, "one", "train").iter().map(|body| body["step"].as_u64().unwrap()).collect();
    assert!(steps.windows(2).any(|pair| pair[1] <= pair[0]), "{steps:?}");

    for name in ["again", "two"] {
        assert_eq!(weights(&cluster.succeed(name)), one, "{name}");
        assert_eq!(decisions(&cluster, name), found, "{name}");
    }
    // Without the guard, the model learns the garbage.
    assert_ne!(weights(&cluster.succeed("blind")), one);
    assert!(decisions(&cluster, "blind").is_empty());

    // The agent dies when the first decision was written, and again at the round after it: no decision is
    // made twice.
    cluster.memory.lock().unwrap().patience = Some(("guard/", 0));
    refused(&cluster, "killed");
    let done = bodies(&cluster, "killed", "round").len();
    cluster.memory.lock().unwrap().patience = Some(("round", 0));
    refused(&cluster, "killed");
    cluster.memory.lock().unwrap().patience = None;
    assert_eq!(bodies(&cluster, "killed", "round").len(), done);
    cluster.memory.lock().unwrap().resize("killed", 4);
    assert_eq!(weights(&cluster.succeed("killed")), one);
    assert_eq!(decisions(&cluster, "killed"), found);
    accounted(&cluster, "killed", 512);
    eval(&cluster, "measured", "killed");
    cluster.succeed("measured");
}

#[test]
fn a_run_that_goes_wrong_again_and_again_ends_in_an_error_and_no_kill_gives_it_more_tries() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = prepared(dir.path(), poisoned());
    // A learning rate that grows until the training diverges.
    let run = r#""steps": 60, "microbatches": 2, "sequences": 1, "checkpoint_every": 4, "learning_rate": 1.0, "clip_norm": 1000.0,
        "warmup_steps": 60, "guard_deviations": 0.5, "guard_max": 2"#;
    for (name, ranks) in [("one", 1), ("two", 2)] {
        train(&cluster, name, ranks, run);
    }
    let message = refused(&cluster, "one");
    assert!(message.starts_with("continue at step ") && message.contains("a loss of "), "{message}");
    assert!(message.contains("the guard may roll back 2 times (`guard_max`)"), "{message}");
    let found = decisions(&cluster, "one");
    assert_eq!(found.len(), 2);

    // A retry resumes from the same checkpoint, with the recorded decisions, and ends the same way.
    assert_eq!(refused(&cluster, "one"), message);
    assert_eq!(decisions(&cluster, "one"), found);
    let ended = cluster.run("two");
    assert!(ended.iter().all(|ended| ended.as_ref().unwrap_err() == &message), "{ended:?}");
    assert_eq!(decisions(&cluster, "two"), found);
    // The last committed checkpoint can be loaded.
    let last = bodies(&cluster, "one", "round").pop().unwrap();
    Model::load(&artifacts(&cluster), &ModelPlace::Artifact(hash(&last["checkpoint"])))
        .unwrap()
        .decoder()
        .unwrap();
}

/// A base whose output is NaN after one token and valid after all others: one dimension is far too large, and
/// only that token uses it.
fn broken_base(dir: &Path, vocab: usize, token: usize) -> String {
    let config = ModelConfig { tie_word_embeddings: false, ..shape(vocab) };
    let base = model_dir(dir.join("base"), &config, |tensors| {
        let rows =
            |tensors: &mut Vec<NamedTensor>, end: &str, of: fn(usize, usize) -> Option<f32>, token: usize| {
                let tensor = tensors.iter_mut().find(|tensor| tensor.name.ends_with(end)).unwrap();
                let width = tensor.shape.get(1).copied().unwrap_or(1);
                for (row, numbers) in tensor.numbers.chunks_exact_mut(width).enumerate() {
                    if let Some(number) = of(row, token) {
                        numbers[0] = number;
                    }
                }
            };
        rows(tensors, "embed_tokens.weight", |row, token| Some(if row == token { 1.0 } else { 0.0 }), token);
        rows(tensors, "lm_head.weight", |row, _| Some(if row % 2 == 0 { 1e-6 } else { -1e-6 }), token);
        rows(tensors, "model.norm.weight", |row, _| (row == 0).then_some(3e38), token);
        for end in ["o_proj.weight", "down_proj.weight"] {
            let tensor = tensors.iter_mut().find(|tensor| tensor.name.ends_with(end)).unwrap();
            let width = tensor.shape[1];
            tensor.numbers[..width].fill(0.0);
        }
    });
    base.display().to_string()
}

#[test]
fn a_number_that_is_none_leaves_the_weights_as_they_were_and_its_samples_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut documents = known();
    documents[20] = Body::Text("one two ~ three four ".repeat(2));
    let cluster = prepared(dir.path(), documents);
    let data = data_set(&cluster);
    let token = tokenizer(&artifacts(&cluster), &data).unwrap().encode(" ~").unwrap().pop().unwrap();
    let base = broken_base(dir.path(), data.manifest.vocab_size as usize, token as usize);
    // The trained weights can't change that dimension.
    let run = format!(
        r#""base": "{base}", "method": "lora", "targets": ["q_proj", "k_proj", "v_proj"], "steps": 48, "microbatches": 4, "sequences": 1,
            "checkpoint_every": 4"#
    );
    train(&cluster, "one", 1, &run);
    train(&cluster, "two", 2, &run);
    train(&cluster, "never", 1, &format!(r#"{run}, "guard_max": 0"#));
    let one = weights(&cluster.succeed("one"));
    let found = decisions(&cluster, "one");
    assert!(!found.is_empty());
    for decision in &found {
        assert_eq!(decision["why"], "the loss is NaN", "{decision}");
        assert_eq!(runs(&decision["skipped"]).len(), 4, "only the step itself: {decision}");
    }
    accounted(&cluster, "one", 192);
    assert_eq!(weights(&cluster.succeed("two")), one);
    assert_eq!(decisions(&cluster, "two"), found);
    let message = refused(&cluster, "never");
    let step = &found[0]["step"];
    assert_eq!(
        message,
        format!("continue at step {step}: the loss is NaN; the guard may roll back 0 times (`guard_max`)")
    );
    assert_eq!(found[0]["back_to"], json!(step.as_u64().unwrap() / 4 * 4));
}
