//! Bases that can't be trained: each error names the file, the fault and the remedy, and earlier checkpoints
//! stay.

use super::fake::Cluster;
use super::made::{artifacts, data_set, eval, model_dir, prepared, refused, shape, texts, train};
use crate::model::tokenizer;
use muster_data::dedup::Selection;
use muster_data::documents::{Body, Document, Place, Scan};
use muster_data::tokenizer::{Tokenizer, TokenizerConfig};
use muster_host::compute::Compute;
use muster_llm::model::hub::NamedTensor;
use std::fs;
use std::path::Path;

const FEW: &str = r#""steps": 2, "microbatches": 1, "sequences": 2, "checkpoint_every": 2"#;

/// The tensor whose name has this ending.
fn tensor<'a>(tensors: &'a mut [NamedTensor], end: &str) -> &'a mut NamedTensor {
    tensors.iter_mut().find(|tensor| tensor.name.ends_with(end)).unwrap()
}

/// The error of a training on this base.
fn on(cluster: &Cluster, name: &'static str, base: &Path, more: &str) -> String {
    train(cluster, name, 1, &format!(r#"{FEW}, "base": "{}"{more}"#, base.display()));
    refused(cluster, name)
}

#[test]
fn a_base_that_does_not_fit_is_named_with_what_would() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = prepared(dir.path(), texts(30));
    let vocab = data_set(&cluster).manifest.vocab_size as usize;
    train(&cluster, "before", 1, FEW);
    cluster.succeed("before");
    eval(&cluster, "measured", "before");
    let measured = cluster.succeed("measured");

    let config = shape(vocab);
    let base =
        |name: &str, change: fn(&mut Vec<NamedTensor>)| model_dir(dir.path().join(name), &config, change);
    let whole = base("whole", |_| {});
    let absent = base("absent", |tensors| tensors.retain(|tensor| !tensor.name.ends_with("k_proj.weight")));
    let misshapen = base("misshapen", |tensors| tensor(tensors, "k_proj.weight").shape = vec![32, 16]);
    let stranger = base("stranger", |tensors| {
        let more = NamedTensor {
            name: "model.layers.1.self_attn.q_proj.weight".to_owned(),
            shape: vec![2],
            numbers: vec![0.0; 2],
        };
        tensors.push(more);
    });
    let not_a_number = base("nan", |tensors| tensor(tensors, "down_proj.weight").numbers[5] = f32::NAN);
    let torn = base("torn", |_| {});
    let bytes = fs::read(torn.join("model.safetensors")).unwrap();
    fs::write(torn.join("model.safetensors"), &bytes[..bytes.len() - 7]).unwrap();
    let bare = base("bare", |_| {});
    fs::remove_file(bare.join("config.json")).unwrap();
    let small = model_dir(dir.path().join("small"), &shape(vocab - 1), |_| {});

    let table: [(&'static str, &Path, &str, &[&str]); 12] = [
        (
            "absent",
            &absent,
            "",
            &["no file has a tensor model.layers.0.self_attn.k_proj.weight of shape [16, 32]"],
        ),
        (
            "misshapen",
            &misshapen,
            "",
            &["k_proj.weight has shape [32, 16] where the configuration wants [16, 32]"],
        ),
        (
            "stranger",
            &stranger,
            "",
            &["a tensor model.layers.1.self_attn.q_proj.weight of shape [2], which the model does not have"],
        ),
        ("nan", &not_a_number, "", &["model.safetensors", "model.layers.0.mlp.down_proj.weight", "NaN"]),
        ("torn", &torn, "", &["read model.safetensors"]),
        ("bare", &bare, "", &["config.json", "there is no such file"]),
        (
            "small",
            &small,
            "",
            &[
                &format!("a vocabulary of {vocab} for a model of {}", vocab - 1),
                "the tokenizer is not the model's",
            ],
        ),
        (
            "long",
            &whole,
            r#", "context": 33"#,
            &["sequences of 33 are longer than the model's context of 32"],
        ),
        (
            "behind",
            &whole,
            r#", "context": 32, "method": "prefix", "virtual_tokens": 5"#,
            &[
                "sequences of 32 behind 5 that are learnt are longer than the model's context of 32; at most 27 fit",
            ],
        ),
        (
            "target",
            &whole,
            r#", "method": "lora", "targets": ["q_proj", "query"]"#,
            &["find the target \"query\" in the model", "q_proj, k_proj, v_proj", "all-linear"],
        ),
        (
            "rank",
            &whole,
            r#", "method": "qlora", "targets": ["layers.7.self_attn.q_proj"]"#,
            &["layers.7.self_attn.q_proj", "layers.0 to 0"],
        ),
        ("nowhere", Path::new("/no/such/model"), "", &["find the base `/no/such/model`", "blake3:…"]),
    ];
    for (name, base, more, expected) in table {
        let message = on(&cluster, name, base, more);
        assert!(expected.iter().all(|part| message.contains(part)), "{name}: {message}");
    }

    // The earlier checkpoint is unchanged.
    eval(&cluster, "again", "before");
    assert_eq!(cluster.succeed("again"), measured);
    train(&cluster, "fits", 1, &format!(r#"{FEW}, "base": "{}", "context": 32"#, whole.display()));
    cluster.succeed("fits");
}

#[test]
fn a_tokenizer_of_another_model_is_refused_though_it_has_as_many_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = prepared(dir.path(), texts(30));
    let data = data_set(&cluster);
    let ours = tokenizer(&artifacts(&cluster), &data).unwrap();
    let config = shape(ours.vocab_size() + 8);
    let beside = |name: &str, json: &[u8]| {
        let base = model_dir(dir.path().join(name), &config, |_| {});
        fs::write(base.join("tokenizer.json"), json).unwrap();
        base
    };
    // A tokenizer of equal size, trained on other text: only the tokens differ.
    let other = Tokenizer::from_bytes(&other_json(ours.vocab_size())).unwrap();
    assert_eq!(other.vocab_size(), ours.vocab_size());
    let message = on(&cluster, "strange", &beside("strange", other.to_bytes()), "");
    assert!(message.contains("use the tokenizer and the model together: token 25"), "{message}");
    assert!(message.contains("for the model it is"), "{message}");

    // The base's own tokenizer is accepted, and so is one that can't be compared.
    let fits = |name: &'static str, json: &[u8]| {
        train(&cluster, name, 1, &format!(r#"{FEW}, "base": "{}""#, beside(name, json).display()));
        cluster.succeed(name)
    };
    assert_eq!(fits("own", ours.to_bytes())[0]["weights"], fits("unknown", b"{}")[0]["weights"]);

    // A checkpoint contains its tokenizer, which is compared as well.
    let there = tempfile::tempdir().unwrap();
    let elsewhere = prepared(there.path(), texts(30).into_iter().map(shouted).collect());
    let theirs = data_set(&elsewhere);
    assert_ne!(theirs.tokenizer, data.tokenizer);
    train(&cluster, "kept", 1, FEW);
    let kept = cluster.succeed("kept")[0]["checkpoint"].clone();
    copy(&dir.path().join("artifacts"), &there.path().join("artifacts"));
    train(&elsewhere, "moved", 1, &format!(r#"{FEW}, "base": {kept}"#));
    let message = refused(&elsewhere, "moved");
    assert!(message.contains("use the tokenizer and the model together"), "{message}");
}

/// The same document in capital letters, which gives other merges.
fn shouted(body: Body) -> Body {
    Body::Text(body.plain().to_uppercase())
}

/// A tokenizer with `vocab_size` tokens, trained on other text.
fn other_json(vocab_size: usize) -> Vec<u8> {
    let body =
        Body::Text("pub fn next(&mut self) -> Option<Item> { self.items.pop() } struct Items; impl Iterator for Items {}\n".repeat(40));
    let scan =
        Scan { documents: vec![Document::new("a".to_owned(), Place::Whole, body, false)], ..Scan::default() };
    let choice = Selection { keep: vec![vec![0]], ..Selection::default() };
    let config = TokenizerConfig { vocab_size, ..TokenizerConfig::default() };
    Tokenizer::train(&config, &[scan], &choice, &Compute::new(1).unwrap()).unwrap().to_bytes().to_vec()
}

/// Copies a directory of artifacts into another.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&place).unwrap();
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}
