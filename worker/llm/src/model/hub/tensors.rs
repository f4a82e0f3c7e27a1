//! Named tensors in safetensors files, in one or in several.

use crate::autograd::Slot;
use crate::model::{Error, ModelConfig};
use candle_core::DType;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Bytes of a file of weights, at most, unless it has a single tensor.
pub const SHARD_BYTES: usize = 5_000_000_000;

/// The weights' file, if there is one only.
pub const SINGLE: &str = "model.safetensors";
/// The file that names the weights' files, if there are several.
pub const INDEX: &str = "model.safetensors.index.json";

/// A tensor with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its numbers, row by row.
    pub numbers: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
struct ShardIndex {
    #[serde(default)]
    metadata: BTreeMap<String, serde_json::Value>,
    weight_map: BTreeMap<String, String>,
}

fn damaged(file: &str, reason: impl ToString) -> Error {
    Error::File { what: "read", file: file.to_owned(), reason: reason.to_string() }
}

/// The files that an index names, each once, in order.
pub fn files_of(index: &[u8]) -> Result<Vec<String>, Error> {
    let index: ShardIndex = serde_json::from_slice(index).map_err(|e| damaged(INDEX, e))?;
    let mut files: Vec<String> = index.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    match files.iter().find(|file| file.contains(['/', '\\']) || file.starts_with('.')) {
        Some(file) => Err(damaged(INDEX, format!("it names {file:?}, which is not a file beside it"))),
        None => Ok(files),
    }
}

/// Copies the tensors of one file to their places in `flat`.
pub fn take(
    file: &str,
    bytes: &[u8],
    config: &ModelConfig,
    slots: &[Slot],
    flat: &mut [f32],
    found: &mut [bool],
) -> Result<(), Error> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(file, e))?;
    for (name, tensor) in tensors.iter() {
        let Ok(at) = slots.binary_search_by(|slot| slot.name.as_str().cmp(name)) else {
            // Some writers keep the tables of rotary positions, and a second copy of a tied output layer.
            if name.ends_with("rotary_emb.inv_freq")
                || (config.tie_word_embeddings && name == "lm_head.weight")
            {
                continue;
            }
            return Err(Error::Weights(format!(
                "{file} has a tensor {name} of shape {:?}, which the model does not have",
                tensor.shape()
            )));
        };
        let slot = &slots[at];
        if tensor.shape() != slot.shape {
            return Err(Error::Weights(format!(
                "{file}: {name} has shape {:?} where the configuration wants {:?}",
                tensor.shape(),
                slot.shape
            )));
        }
        let place = &mut flat[slot.range()];
        numbers(&tensor, place).ok_or_else(|| {
            Error::Weights(format!("{file}: {name} is {:?}; F32, BF16 and F16 can be read", tensor.dtype()))
        })?;
        if let Some(number) = place.iter().find(|number| !number.is_finite()) {
            return Err(Error::Weights(format!(
                "{file}: {name} holds {number}, from which nothing can be learnt"
            )));
        }
        found[at] = true;
    }
    Ok(())
}

/// All tensors of a safetensors file (f32, bf16 or f16), in order of name.
///
/// # Errors
/// [`Error::File`] for a damaged file, [`Error::Weights`] for a tensor of another type.
pub fn read_tensors(file: &str, bytes: &[u8]) -> Result<Vec<NamedTensor>, Error> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(file, e))?;
    let mut all = Vec::new();
    for (name, tensor) in tensors.iter() {
        let mut held = NamedTensor {
            name: name.to_owned(),
            shape: tensor.shape().to_vec(),
            numbers: vec![0.0; tensor.shape().iter().product()],
        };
        numbers(&tensor, &mut held.numbers).ok_or_else(|| {
            Error::Weights(format!("{file}: {name} is {:?}; F32, BF16 and F16 can be read", tensor.dtype()))
        })?;
        all.push(held);
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// The elements of a tensor as f32; `None` for types other than f32, bf16 and f16.
pub fn numbers(tensor: &TensorView<'_>, out: &mut [f32]) -> Option<()> {
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => {
            let numbers = data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            out.iter_mut().zip(numbers).for_each(|(out, x)| *out = x);
        }
        Dtype::BF16 => {
            let numbers = data.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32());
            out.iter_mut().zip(numbers).for_each(|(out, x)| *out = x);
        }
        Dtype::F16 => {
            let numbers = data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
            out.iter_mut().zip(numbers).for_each(|(out, x)| *out = x);
        }
        _ => return None,
    }
    Some(())
}

/// Elements as bytes of `dtype`.
fn encoded(numbers: &[f32], dtype: DType) -> Option<(Dtype, Vec<u8>)> {
    match dtype {
        DType::F32 => Some((Dtype::F32, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())),
        DType::BF16 => {
            Some((Dtype::BF16, numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect()))
        }
        DType::F16 => {
            Some((Dtype::F16, numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect()))
        }
        _ => None,
    }
}

/// The files that hold `named` in `dtype` (f32, bf16 or f16): one, or several of at most `shard_bytes` with
/// an index.
///
/// # Errors
/// When the type is another, or serialization fails.
pub fn shards(
    named: Vec<NamedTensor>,
    dtype: DType,
    shard_bytes: usize,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let failed = |reason: String| Error::File { what: "write", file: SINGLE.to_owned(), reason };
    let (mut groups, mut total): (Vec<Vec<_>>, usize) = (vec![Vec::new()], 0);
    let mut held = 0;
    for NamedTensor { name, shape, numbers } in named {
        let (kind, bytes) = encoded(&numbers, dtype)
            .ok_or_else(|| failed(format!("weights can't be written as {dtype:?}")))?;
        if held > 0 && held + bytes.len() > shard_bytes {
            groups.push(Vec::new());
            held = 0;
        }
        held += bytes.len();
        total += bytes.len();
        if let Some(group) = groups.last_mut() {
            group.push((name, kind, shape, bytes));
        }
    }
    let count = groups.len();
    let (mut files, mut weight_map) = (Vec::new(), BTreeMap::new());
    for (at, group) in groups.into_iter().enumerate() {
        let file = if count == 1 {
            SINGLE.to_owned()
        } else {
            format!("model-{:05}-of-{count:05}.safetensors", at + 1)
        };
        let mut views = Vec::new();
        for (name, kind, shape, bytes) in &group {
            weight_map.insert(name.clone(), file.clone());
            views.push((
                name.clone(),
                TensorView::new(*kind, shape.clone(), bytes).map_err(|e| failed(e.to_string()))?,
            ));
        }
        let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        files.push((file, safetensors::serialize(views, Some(about)).map_err(|e| failed(e.to_string()))?));
    }
    if count > 1 {
        let index =
            ShardIndex { metadata: BTreeMap::from([("total_size".to_owned(), total.into())]), weight_map };
        let bytes = serde_json::to_vec_pretty(&index).map_err(|e| failed(e.to_string()))?;
        files.push((INDEX.to_owned(), bytes));
    }
    Ok(files)
}
