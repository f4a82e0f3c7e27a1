//! Saves what our code makes of recorded checkpoints, and adapters of them, so that transformers and peft
//! open it: `oracle_export THEIRS OURS`.
//!
//! For each `THEIRS/models/NAME` it changes the weights (a mere copy would prove nothing), and writes
//! `OURS/models/NAME` in the Hugging Face layout, with `ours.safetensors` beside it: the recorded tokens, and
//! our logits, loss and gradients of the changed model, in the format that `oracle/compare.py` describes; and
//! for each method `OURS/adapters/NAME-METHOD` in the PEFT layout, with the same beside it. `cargo xtask
//! oracle` runs this, and then the checks of `oracle/models.py` and `oracle/adapters.py`.

use candle_core::{DType, Device};
use muster_llm::model::{Decoder, ModelConfig, Precision, hub};
use muster_llm::ops::BatchLayout;
use muster_llm::ops::linear_cross_entropy::{IGNORE_INDEX, LossTargets};
use muster_llm::peft::{self, MethodConfig, adapter};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Small, so that most models are saved in several files.
const SHARD_BYTES: usize = 12 << 10;

/// Named arrays on their way to a file.
#[derive(Default)]
struct Arrays(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

impl Arrays {
    fn floats(&mut self, name: &str, shape: Vec<usize>, numbers: &[f32]) {
        self.0.push((
            name.to_owned(),
            Dtype::F32,
            shape,
            numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ));
    }

    fn write(&self, path: &Path) -> Outcome<()> {
        let views = self
            .0
            .iter()
            .map(|(name, kind, shape, bytes)| Ok((name, TensorView::new(*kind, shape.clone(), bytes)?)));
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        Ok(fs::write(path, safetensors::serialize(views, None)?)?)
    }
}

fn export(theirs: &Path, ours: &Path, base: &str) -> Outcome<()> {
    let (config, mut flat) = hub::load_dir(theirs)?;
    for (place, number) in flat.iter_mut().enumerate() {
        *number *= 1.0 + 0.2 * (place as f32).sin();
    }
    let model = Decoder::trained(config, &flat)?;
    fs::create_dir_all(ours)?;
    for (file, bytes) in hub::save(model.config(), model.store(), DType::F32, SHARD_BYTES)? {
        fs::write(ours.join(file), bytes)?;
    }

    let recorded = fs::read(theirs.join("oracle.safetensors"))?;
    let recorded = SafeTensors::deserialize(&recorded)?;
    let given = recorded.tensor("tokens")?;
    let [batch, time] = *given.shape() else { return Err("tokens have rows".into()) };
    let tokens: Vec<u32> =
        given.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect();
    let given = (tokens.as_slice(), BatchLayout::new(batch, time));
    measure(&model, &MethodConfig::default(), given.clone(), &ours.join("ours.safetensors"))?;
    for (name, method) in METHODS {
        adapter(
            model.config(),
            &flat,
            method,
            given.clone(),
            &ours.join("../../adapters").join(format!("{base}-{name}")),
            base,
        )?;
    }
    Ok(())
}

/// Writes tokens, and what a model makes of them.
fn measure(
    model: &Decoder,
    method: &MethodConfig,
    (tokens, rows): (&[u32], BatchLayout),
    path: &Path,
) -> Outcome<()> {
    let targets =
        tokens.chunks(rows.time).flat_map(|row| row[1..].iter().copied().chain([IGNORE_INDEX])).collect();
    let logits = model.logits(tokens, &rows)?.flatten_all()?.to_vec1::<f32>()?;
    let (loss, gradients) = model.gradients(tokens, &LossTargets::mean(targets), &rows, None, Vec::new())?;

    let mut arrays = Arrays::default();
    let ids = tokens.iter().flat_map(|token| i64::from(*token).to_le_bytes()).collect();
    arrays.0.push(("tokens".to_owned(), Dtype::I64, vec![rows.batch, rows.time], ids));
    arrays.floats("logits", vec![rows.batch, rows.time, model.config().vocab_size], &logits);
    arrays.floats("loss", Vec::new(), &[loss as f32]);
    for found in method.method().to_peft(model.config(), model.store().slots(), &gradients.into_vec()?) {
        arrays.floats(&format!("grad.{}", found.name), found.shape, &found.numbers);
    }
    arrays.write(path)
}

/// Methods that leave an adapter.
const METHODS: [(&str, &str); 5] = [
    ("lora", r#"{"method": "lora", "r": 4, "alpha": 16}"#),
    (
        "lora-all",
        r#"{"method": "lora", "r": 3, "alpha": 5, "dropout": 0.1, "rslora": true, "targets": "all-linear"}"#,
    ),
    (
        "lora-one",
        r#"{"method": "lora", "r": 2, "alpha": 2.5, "targets": ["layers.1.mlp.down_proj", "o_proj"]}"#,
    ),
    ("prefix", r#"{"method": "prefix", "virtual_tokens": 5, "spread": 0.5}"#),
    ("prompt", r#"{"method": "prompt", "virtual_tokens": 4}"#),
];

/// Writes an adapter of a saved model, and what comes of both.
fn adapter(
    config: &ModelConfig,
    flat: &[f32],
    method: &str,
    given: (&[u32], BatchLayout),
    ours: &Path,
    base: &str,
) -> Outcome<()> {
    let method: MethodConfig = serde_json::from_str(method)?;
    let model = peft::build(config.clone(), flat.to_vec(), &method, Precision::F32, &Device::Cpu, 5)?;
    // LoRA's B begins as zeros, which would hide what is added.
    model.store().edit(|flat| {
        flat.iter_mut().enumerate().for_each(|(place, x)| *x += 0.2 * (place as f32 * 0.9).sin())
    })?;
    fs::create_dir_all(ours)?;
    for (file, bytes) in
        adapter::save(&method, &model, &model.store().trained()?, &format!("../../models/{base}"))?
    {
        fs::write(ours.join(file), bytes)?;
    }
    measure(&model, &method, given, &ours.join("ours.safetensors"))
}

fn main() -> Outcome<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [theirs, ours] = arguments.as_slice() else { return Err("usage: oracle_export THEIRS OURS".into()) };
    for entry in fs::read_dir(theirs.join("models"))? {
        let directory = entry?.path();
        let name = directory.file_name().ok_or("a directory has a name")?;
        export(&directory, &ours.join("models").join(name), &name.to_string_lossy())?;
    }
    Ok(())
}
