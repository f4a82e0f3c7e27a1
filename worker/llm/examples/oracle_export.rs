//! Saves what our code makes of recorded checkpoints, so that transformers and peft open it: `oracle_export THEIRS OURS`.
//!
//! For each `THEIRS/models/NAME` it changes the weights (a mere copy would prove nothing), and writes `OURS/models/NAME` in the Hugging
//! Face layout, with `ours.safetensors` beside it: the recorded tokens, and our logits, loss and gradients of the changed model, in the
//! format that `oracle/compare.py` describes. `cargo xtask oracle` runs this, and then `oracle/models.py check`.

use candle_core::DType;
use muster_llm::model::{Decoder, hub};
use muster_llm::ops::Rows;
use muster_llm::ops::head_loss::{IGNORED, Targets};
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
        self.0.push((name.to_owned(), Dtype::F32, shape, numbers.iter().flat_map(|x| x.to_le_bytes()).collect()));
    }

    fn write(&self, path: &Path) -> Outcome<()> {
        let views = self.0.iter().map(|(name, kind, shape, bytes)| Ok((name, TensorView::new(*kind, shape.clone(), bytes)?)));
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        Ok(fs::write(path, safetensors::serialize(views, None)?)?)
    }
}

fn export(theirs: &Path, ours: &Path) -> Outcome<()> {
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
    let tokens: Vec<u32> = given.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect();
    let rows = Rows::new(batch, time);
    let targets = tokens.chunks(time).flat_map(|row| row[1..].iter().copied().chain([IGNORED])).collect();
    let logits = model.logits(&tokens, &rows)?.flatten_all()?.to_vec1::<f32>()?;
    let (loss, gradients) = model.gradients(&tokens, &Targets::mean(targets), &rows, None, Vec::new())?;
    let flat = gradients.into_flat()?;

    let mut arrays = Arrays::default();
    arrays.0.push(("tokens".to_owned(), Dtype::I64, vec![batch, time], given.data().to_vec()));
    arrays.floats("logits", vec![batch, time, model.config().vocab_size], &logits);
    arrays.floats("loss", Vec::new(), &[loss as f32]);
    for slot in model.store().slots().iter() {
        arrays.floats(&format!("grad.{}", slot.name), slot.shape.clone(), &flat[slot.range()]);
    }
    arrays.write(&ours.join("ours.safetensors"))
}

fn main() -> Outcome<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [theirs, ours] = arguments.as_slice() else { return Err("usage: oracle_export THEIRS OURS".into()) };
    for entry in fs::read_dir(theirs.join("models"))? {
        let directory = entry?.path();
        let name = directory.file_name().ok_or("a directory has a name")?;
        export(&directory, &ours.join("models").join(name))?;
    }
    Ok(())
}
