//! What each method trains, adds and refuses.

use super::{MethodConfig, adapter, base_footprint, build, check_trainable, merge};
use crate::autograd::WeightData;
use crate::device::tests::small_blocks;
use crate::model::weights::initial;
use crate::model::{Decoder, Family, ModelConfig, Precision, hub};
use crate::ops::BatchLayout;
use crate::ops::linear_cross_entropy::LossTargets;
use candle_core::{DType, Device};
use serde_json::{Value, json};

fn small() -> ModelConfig {
    ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: 61,
        hidden_size: 64,
        intermediate_size: 96,
        num_hidden_layers: 2,
        initializer_range: 0.2,
        tie_word_embeddings: false,
        ..ModelConfig::default()
    }
}

fn method(value: Value) -> MethodConfig {
    serde_json::from_value(value).expect("a method")
}

fn built(config: &ModelConfig, of: &MethodConfig) -> Decoder {
    build(config.clone(), initial(config, 3), of, Precision::F32, &Device::Cpu, 5).expect("builds")
}

fn tokens(count: usize, salt: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * i * 31 + i * 7 + salt) % 61) as u32).collect()
}

fn gradients(model: &Decoder, dropout: Option<u64>) -> (f64, Vec<f32>) {
    let targets = LossTargets::mean(tokens(34, 5));
    let (loss, found) = model
        .gradients(&tokens(34, 1), &targets, &BatchLayout::new(2, 17), dropout, Vec::new())
        .expect("runs");
    (loss, found.into_vec().expect("reads"))
}

fn logits(model: &Decoder) -> Vec<f32> {
    let logits = model.logits(&tokens(34, 1), &BatchLayout::new(2, 17)).expect("runs");
    logits.flatten_all().and_then(|logits| logits.to_vec1()).expect("reads")
}

fn off(a: &[f32], b: &[f32]) -> f32 {
    let scale = b.iter().fold(0f32, |scale, x| scale.max(x.abs()));
    a.iter().zip(b).fold(0f32, |worst, (a, b)| worst.max((a - b).abs())) / scale
}

/// A step down the gradient.
fn step(model: &Decoder, gradients: &[f32], rate: f32) {
    model
        .store()
        .edit(|flat| flat.iter_mut().zip(gradients).for_each(|(x, g)| *x -= rate * g))
        .expect("edits");
}

#[test]
fn every_method_trains_what_it_says_and_lowers_the_loss() {
    let config = small();
    // (method, numbers that are trained)
    let lora_all = 2 * 4 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 96));
    let table = [
        (json!({"method": "full"}), config.parameter_count()),
        (json!({"method": "lora", "r": 4}), 2 * 4 * ((64 + 64) + (64 + 32))),
        (
            json!({"method": "lora", "r": 4, "targets": "all-linear", "dropout": 0.1, "base": "bf16"}),
            lora_all,
        ),
        (
            json!({"method": "lora", "r": 2, "targets": ["layers.1.self_attn.o_proj"], "rslora": true, "alpha": 3.5}),
            2 * (64 + 64),
        ),
        (json!({"method": "qlora", "base": "q8_0", "lora": {"r": 4}}), 2 * 4 * ((64 + 64) + (64 + 32))),
        (json!({"method": "prefix", "virtual_tokens": 3}), 2 * 2 * 3 * 32),
        (json!({"method": "prompt", "virtual_tokens": 3}), 3 * 64),
        (json!({"method": "prompt", "virtual_tokens": 3, "start": "random", "spread": 0.5}), 3 * 64),
    ];
    for (value, count) in table {
        let of = method(value.clone());
        let model = built(&config, &of);
        assert_eq!(model.store().trained_count(), count, "{value}");
        let (first, found) = gradients(&model, Some(1));
        check_trainable(&of, &model, &found, 0).unwrap_or_else(|e| panic!("{value}: {e}"));
        let norm = found.iter().map(|g| g * g).sum::<f32>();
        step(&model, &found, 0.02 / norm.sqrt());
        let (second, found) = gradients(&model, Some(1));
        assert!(second < first, "{value}: {first} to {second}");
        check_trainable(&of, &model, &found, 1).unwrap_or_else(|e| panic!("{value}: {e}"));
        // The same seed gives the same start, another one another.
        let again = |seed| {
            build(config.clone(), initial(&config, 3), &of, Precision::F32, &Device::Cpu, seed)
                .expect("builds")
        };
        assert_eq!(again(1).store().trained().expect("reads"), again(1).store().trained().expect("reads"));
        let differs =
            again(1).store().trained().expect("reads") != again(2).store().trained().expect("reads");
        assert_eq!(differs, value["method"] != "full", "{value}");
    }
}

#[test]
fn what_would_not_learn_is_named() {
    let config = small();
    let of = method(json!({"method": "lora", "r": 2}));
    let model = built(&config, &of);
    let (_, mut found) = gradients(&model, None);
    check_trainable(&of, &model, &found, 0).expect("A may be silent");
    let silent = check_trainable(&of, &model, &found, 1).expect_err("A learnt nothing").to_string();
    assert!(
        silent.contains("layers.0.self_attn.q_proj.lora_A.weight has no gradient after 1 steps"),
        "{silent}"
    );
    found[0] = f32::NAN;
    assert!(
        check_trainable(&of, &model, &found, 0)
            .expect_err("is no number")
            .to_string()
            .contains("a gradient of NaN")
    );
    let other = method(json!({"method": "lora", "r": 2, "targets": ["q_proj"]}));
    assert!(
        check_trainable(&other, &model, &[0.1; 9999], 1)
            .expect_err("too many")
            .to_string()
            .contains("v_proj.lora_A.weight is trained, and should be")
    );
    let more = method(json!({"method": "lora", "r": 2, "targets": ["q_proj", "v_proj", "o_proj"]}));
    assert!(
        check_trainable(&more, &model, &[0.1; 9999], 1)
            .expect_err("too few")
            .to_string()
            .contains("o_proj.lora_A.weight is frozen or absent")
    );
}

#[test]
fn merged_weights_act_as_the_additions_did() {
    let config = small();
    for value in [
        json!({"method": "lora", "r": 4, "alpha": 16.0, "targets": "all-linear"}),
        json!({"method": "lora", "r": 4, "rslora": true, "base": "bf16"}),
        json!({"method": "qlora", "base": "q8_0", "embeddings": "q8_0", "lora": {"r": 4, "targets": "all-linear"}}),
    ] {
        let model = built(&config, &method(value.clone()));
        model
            .store()
            .edit(|flat| flat.iter_mut().enumerate().for_each(|(i, x)| *x += 0.1 * (i as f32).sin()))
            .expect("edits");
        let merged = merge(&model).expect("merges");
        assert!(off(&logits(&merged), &logits(&model)) < 1e-4, "{value}");
        let plain = built(&config, &MethodConfig::default());
        assert!(off(&logits(&merged), &logits(&plain)) > 1e-2, "{value}: nothing was added");
        // As a checkpoint of the plain model, too.
        let files = hub::save(&config, merged.store(), DType::F32, hub::SHARD_BYTES).expect("saves");
        let read =
            |name: &str| Ok(files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.clone()));
        let (read_config, flat) = hub::load(read).expect("loads");
        let read = Decoder::trained(read_config, &flat).expect("builds");
        assert!(off(&logits(&read), &logits(&model)) < 1e-4, "{value}");
    }
    let prefixed = built(&config, &method(json!({"method": "prefix"})));
    assert!(merge(&prefixed).err().expect("refused").to_string().contains("can't be merged"));
}

#[test]
fn adapters_are_read_back_as_they_were_written() {
    let config = small();
    for value in [
        json!({"method": "lora", "r": 3, "alpha": 6.0, "dropout": 0.25, "rslora": true, "targets": "all-linear"}),
        json!({"method": "lora", "r": 2, "targets": ["k_proj", "down_proj"]}),
        json!({"method": "lora", "r": 2, "targets": ["layers.1.mlp.up_proj"]}),
        json!({"method": "prefix", "virtual_tokens": 4}),
        json!({"method": "prompt", "virtual_tokens": 4}),
    ] {
        let of = method(value.clone());
        let model = built(&config, &of);
        let trained: Vec<f32> = (0..model.store().trained_count()).map(|i| (i as f32 * 0.7).sin()).collect();
        model.store().set(&trained).expect("sets");
        let files = adapter::save(&of, &model, &trained, "../base").expect("saves");
        let read =
            |name: &str| Ok(files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.clone()));
        let adapter = adapter::load(&config, read).expect("loads");
        assert_eq!((adapter.flat(), adapter.base.as_str()), (trained, "../base"), "{value}");
        let again =
            adapter.build(config.clone(), initial(&config, 3), Precision::F32, &Device::Cpu).expect("builds");
        assert_eq!(logits(&again), logits(&model), "{value}");
    }
    let full = built(&config, &MethodConfig::default());
    assert!(
        adapter::save(&MethodConfig::default(), &full, &[], "")
            .expect_err("refused")
            .to_string()
            .contains("a whole model")
    );
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_name() {
    let config = small();
    let of = method(json!({"method": "lora", "r": 2}));
    let model = built(&config, &of);
    let files = adapter::save(&of, &model, &model.store().trained().expect("reads"), "").expect("saves");
    let refused = |config: &ModelConfig, change: &dyn Fn(&mut Value)| {
        let read = |name: &str| {
            let bytes = files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.clone());
            Ok(bytes.map(|bytes| match name {
                adapter::CONFIG => {
                    let mut about = serde_json::from_slice(&bytes).expect("is JSON");
                    change(&mut about);
                    serde_json::to_vec(&about).expect("is JSON")
                }
                _ => bytes,
            }))
        };
        adapter::load(config, read).expect_err("refused").to_string()
    };
    // (field, value, what the error says)
    let table = [
        ("use_dora", json!(true), "use_dora = true is not built"),
        ("bias", json!("all"), "bias = \"all\" is not built"),
        ("rank_pattern", json!({"q_proj": 4}), "rank_pattern"),
        ("modules_to_save", json!(["lm_head"]), "modules_to_save"),
        ("init_lora_weights", json!("pissa"), "init_lora_weights = \"pissa\" is not built"),
        ("peft_type", json!("IA3"), "LORA, PREFIX_TUNING and PROMPT_TUNING are"),
        ("r", json!(3), "where the model wants [3, 64]"),
        ("r", json!(null), "r is missing"),
        ("lora_dropout", json!(1.5), "dropout is 1.5"),
    ];
    for (field, value, says) in table {
        let error = refused(&config, &|about| about[field] = value.clone());
        assert!(error.contains(says), "{error}");
    }
    let shallow = ModelConfig { num_hidden_layers: 1, ..config.clone() };
    assert!(refused(&shallow, &|_| {}).contains("of no projection of the model"));
    let deep = ModelConfig { num_hidden_layers: 3, ..config.clone() };
    // Three blocks, of which the file has two: those two are what it targets.
    let read = |name: &str| Ok(files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.clone()));
    assert_eq!(adapter::load(&deep, read).expect("loads").weights.len(), 8);
    assert!(
        adapter::load(&config, |_| Ok(None))
            .expect_err("refused")
            .to_string()
            .contains("there is no adapter_config.json")
    );
    let damaged = |name: &str| read(name).map(|bytes| bytes.map(|bytes| bytes[..bytes.len() / 2].to_vec()));
    assert!(
        adapter::load(&config, damaged).expect_err("refused").to_string().contains("adapter_config.json")
    );
    let half = |name: &str| if name == adapter::WEIGHTS { damaged(name) } else { read(name) };
    assert!(
        adapter::load(&config, half).expect_err("refused").to_string().contains("adapter_model.safetensors")
    );
}

#[test]
fn parameters_that_make_no_sense_are_refused_by_name() {
    let config = small();
    let table = [
        (
            json!({"method": "lora", "targets": ["query"]}),
            "find the target \"query\" in the model: it matches none of q_proj, k_proj, v_proj",
        ),
        (json!({"method": "lora", "targets": "q_pro"}), "\"q_pro\""),
        (json!({"method": "lora", "targets": ["q_proj", "layers.7.self_attn.q_proj"]}), "layers.7"),
        (json!({"method": "lora", "targets": []}), "there are no targets"),
        (json!({"method": "lora", "r": 0}), "r is 0"),
        (json!({"method": "lora", "alpha": 0.0}), "alpha is 0"),
        (json!({"method": "lora", "dropout": 1.0}), "dropout is 1"),
        (json!({"method": "lora", "base": "q4_k"}), "is the method qlora"),
        (json!({"method": "qlora", "base": "bf16"}), "is the method lora"),
        (json!({"method": "qlora", "lora": {"base": "f32"}}), "lora.base"),
        (json!({"method": "prefix", "virtual_tokens": 0}), "virtual_tokens is 0"),
        (json!({"method": "prompt", "virtual_tokens": 128}), "below the context of 128"),
        (json!({"method": "prefix", "spread": -1.0}), "spread is -1"),
    ];
    for (value, says) in table {
        let of = method(value.clone());
        let error = build(config.clone(), initial(&config, 0), &of, Precision::F32, &Device::Cpu, 0)
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains(says), "{value}: {error}");
    }
    for value in
        [json!({"method": "lora", "rank": 8}), json!({"method": "full", "r": 8}), json!({"method": "ia3"})]
    {
        assert!(serde_json::from_value::<MethodConfig>(value.clone()).is_err(), "{value}");
    }
    let short =
        build(config.clone(), vec![0.0; 7], &MethodConfig::default(), Precision::F32, &Device::Cpu, 0);
    assert!(short.err().expect("refused").to_string().contains("7 numbers for a model of"));
}

#[test]
fn blocks_that_do_not_divide_rows_fall_back_to_finer_ones_and_say_so() {
    // Rows of 256 take Q4_K; of 96, Q8_0; of 40, bf16.
    let config = ModelConfig {
        vocab_size: 50,
        hidden_size: 256,
        intermediate_size: 96,
        num_hidden_layers: 1,
        num_attention_heads: 4,
        head_dim: Some(10),
        ..ModelConfig::default()
    };
    let of = method(json!({"method": "qlora"}));
    let model = built(&config, &of);
    let held = |name: &str| match model.store().get(name).expect("is there").data() {
        WeightData::Dense(tensor) => format!("{:?}", tensor.dtype()),
        WeightData::Quantized(tensor) => format!("{:?}", tensor.dtype()),
    };
    let table = [
        ("model.layers.0.self_attn.q_proj.weight", "Q4K"),
        ("model.layers.0.mlp.down_proj.weight", "Q8_0"),
        ("model.layers.0.self_attn.o_proj.weight", "BF16"),
        ("model.embed_tokens.weight", "Q8_0"),
        ("model.norm.weight", "F32"),
    ];
    for (name, form) in table {
        assert_eq!(held(name), form, "{name}");
    }
    let found = base_footprint(&of, &model).expect("counts");
    assert_eq!(found.fallbacks.len(), 2, "{found:?}");
    assert!(
        found.fallbacks[0]
            .contains("mlp.down_proj.weight: rows of 96 don't divide into blocks of Q4K; held in Q8_0"),
        "{found:?}"
    );
    assert!(found.fallbacks[1].contains("o_proj.weight: rows of 40"), "{found:?}");
}

/// What a device runs gives the losses and gradients of the CPU: over frozen bases of every form, in f32 and,
/// as far as its digits go, bf16.
#[test]
fn every_method_on_a_device_is_that_on_the_cpu() {
    let config = ModelConfig {
        hidden_size: 256,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        intermediate_size: 256,
        ..small()
    };
    let methods = [
        json!({"method": "full"}),
        json!({"method": "lora", "r": 4, "dropout": 0.1, "targets": "all-linear"}),
        json!({"method": "lora", "r": 4, "base": "bf16"}),
        json!({"method": "qlora", "base": "q4_k", "lora": {"r": 4}}),
        json!({"method": "qlora", "base": "q8_0", "embeddings": "q4_k", "lora": {"r": 4}}),
        json!({"method": "prefix", "virtual_tokens": 3}),
        json!({"method": "prompt", "virtual_tokens": 3}),
    ];
    for value in methods {
        let of = method(value.clone());
        let model = |precision| {
            build(config.clone(), initial(&config, 3), &of, precision, &Device::Cpu, 5).expect("builds")
        };
        let exact = model(Precision::F32);
        let start: Vec<f32> = exact
            .store()
            .trained()
            .expect("reads")
            .iter()
            .enumerate()
            .map(|(i, x)| x + 0.02 * (i as f32).sin())
            .collect();
        exact.store().set(&start).expect("fits");
        let (loss, slopes) = gradients(&exact, Some(7));
        for (precision, bound) in [(Precision::F32, 2e-4), (Precision::Bf16, 6e-2)] {
            let mut rounded = model(precision);
            rounded.store().set(&start).expect("fits");
            rounded.set_backend(small_blocks());
            let (found, theirs) = gradients(&rounded, Some(7));
            assert!(
                (found - loss).abs() < f64::from(bound) * 0.2 * loss,
                "{value} {precision:?}: {found} against {loss}"
            );
            for slot in exact.store().slots().iter() {
                let (a, b) = (&theirs[slot.range()], &slopes[slot.range()]);
                let norm = b.iter().map(|x| x * x).sum::<f32>().sqrt();
                let off = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt();
                assert!(off <= bound * norm, "{value} {precision:?} {}: off by {off} of {norm}", slot.name);
            }
        }
    }
}
