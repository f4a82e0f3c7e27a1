//! Models in the Hugging Face layout: `config.json`, `model.safetensors` in one file or several with an
//! index.
//!
//! Files are read through a closure by name, so that a directory and an artifact store look alike.

mod config;
mod tensors;

pub use config::{parse_config, write_config};
pub use tensors::{NamedTensor, SHARD_BYTES, read_tensors, shards};

use super::weights::slots;
use super::{Error, ModelConfig, WeightStore};
use candle_core::{DType, Device};
use std::fs;
use std::path::Path;

const CONFIG: &str = "config.json";

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 40;

/// Reads a model's configuration, and its weights as one flat vector in order of names. `read` returns a
/// file's bytes, or `None` if there is no such file.
///
/// # Errors
/// [`Error::File`] for a file that is absent or damaged, [`Error::Config`] for a model that is not supported,
/// [`Error::Weights`] for a tensor that is absent, misshapen, or not expected.
pub fn load(read: impl Fn(&str) -> Result<Option<Vec<u8>>, Error>) -> Result<(ModelConfig, Vec<f32>), Error> {
    let absent = |file: &str| Error::File {
        what: "read",
        file: file.to_owned(),
        reason: "there is no such file".to_owned(),
    };
    let config = parse_config(&read(CONFIG)?.ok_or_else(|| absent(CONFIG))?)?;
    let slots = slots(&config);
    let mut flat = vec![0f32; config.parameter_count()];
    let mut found = vec![false; slots.len()];
    let files = match read(tensors::INDEX)? {
        Some(index) => tensors::files_of(&index)?,
        None => vec![tensors::SINGLE.to_owned()],
    };
    for file in files {
        let bytes = read(&file)?.ok_or_else(|| absent(&file))?;
        tensors::take(&file, &bytes, &config, &slots, &mut flat, &mut found)?;
    }
    match slots.iter().zip(&found).find(|(_, found)| !**found) {
        Some((slot, _)) => {
            Err(Error::Weights(format!("no file has a tensor {} of shape {:?}", slot.name, slot.shape)))
        }
        None => Ok((config, flat)),
    }
}

/// As [`load`], from a directory.
///
/// # Errors
/// As [`load`].
pub fn load_dir(dir: &Path) -> Result<(ModelConfig, Vec<f32>), Error> {
    load(|file| read_file(&dir.join(file)))
}

/// A file's bytes; `None` if there is no such file.
///
/// # Errors
/// [`Error::File`] when it can't be read.
pub fn read_file(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let failed = |reason: String| Error::File { what: "read", file: path.display().to_string(), reason };
    match fs::metadata(path) {
        Ok(about) if about.len() > FILE_BYTES_MAX => {
            Err(failed(format!("it has {} bytes, and the limit is {FILE_BYTES_MAX}", about.len())))
        }
        Ok(_) => fs::read(path).map(Some).map_err(|e| failed(e.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The files of a model: names and bytes. The weights are those that the configuration names, in `dtype`
/// (f32, bf16 or f16).
///
/// # Errors
/// When a weight is absent or the type is another.
pub fn save(
    config: &ModelConfig,
    store: &WeightStore,
    dtype: DType,
    shard_bytes: usize,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut named = Vec::new();
    for (name, shape) in config.weight_shapes() {
        let numbers = store
            .get(&name)?
            .dense(DType::F32, store.device())?
            .to_device(&Device::Cpu)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        named.push(NamedTensor { name, shape, numbers });
    }
    let mut files = vec![(CONFIG.to_owned(), write_config(config, dtype)?)];
    files.extend(shards(named, dtype, shard_bytes)?);
    Ok(files)
}
