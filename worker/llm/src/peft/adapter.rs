//! Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! `peft` loads what is written here, and the reverse. A file that asks for something that is not supported
//! is refused by name, never partly applied: an adapter that is half applied gives answers that look right.

use super::build::build;
use super::config::MethodConfig;
use super::error::{Error, invalid};
use super::lora::{ALL_LINEAR, LoraConfig, PEFT_PREFIX, TargetModules};
use super::prefix::PrefixTuningConfig;
use super::prompt::PromptTuningConfig;
use crate::model::hub::{self, NamedTensor};
use crate::model::layer::{PROJECTIONS, projection_name};
use crate::model::{self, Decoder, ModelConfig, Precision};
use candle_core::{DType, Device};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The file of parameters.
pub const CONFIG: &str = "adapter_config.json";
/// The file of weights.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// An adapter that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Its method.
    pub method: MethodConfig,
    /// The base model that the file names; empty if it names none.
    pub base: String,
    /// Its weights under our names, in order of name.
    pub weights: Vec<NamedTensor>,
}

/// The files of an adapter, as names and bytes. `trained` is flat in order of slots; `base` names the base
/// model.
///
/// # Errors
/// When the method has no adapter, or `trained` does not fit the model.
pub fn save(
    method: &MethodConfig,
    decoder: &Decoder,
    trained: &[f32],
    base: &str,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let (of, config, slots) = (method.method(), decoder.config(), decoder.store().slots());
    let Some(mut about) = of.peft_config(config) else {
        return Err(invalid(of.name(), "it leaves a whole model, and no adapter"));
    };
    if trained.len() != decoder.store().trained_count() {
        let reason =
            format!("{} numbers for {} that are trained", trained.len(), decoder.store().trained_count());
        return Err(invalid(of.name(), reason));
    }
    about["base_model_name_or_path"] = json!(base);
    let failed =
        |file: &str, reason: String| model::Error::File { what: "write", file: file.to_owned(), reason };
    let config_bytes = serde_json::to_vec_pretty(&about).map_err(|e| failed(CONFIG, e.to_string()))?;
    // Always one file: PEFT does not read several.
    let shards = hub::shards(of.to_peft(config, slots, trained), DType::F32, usize::MAX)?;
    let mut files = vec![(CONFIG.to_owned(), config_bytes)];
    files.extend(shards.into_iter().map(|(_, bytes)| (WEIGHTS.to_owned(), bytes)));
    Ok(files)
}

/// Reads an adapter for a model of `config`. `read` returns a file's bytes, or `None` if there is no such
/// file.
///
/// # Errors
/// [`Error::Adapter`] for a file that is absent, damaged, of another model, or asks for something that is not
/// supported.
pub fn load(
    config: &ModelConfig,
    read: impl Fn(&str) -> Result<Option<Vec<u8>>, model::Error>,
) -> Result<Adapter, Error> {
    let absent = |file: &str| Error::Adapter(format!("there is no {file}"));
    let about: Map<String, Value> = serde_json::from_slice(&read(CONFIG)?.ok_or_else(|| absent(CONFIG))?)
        .map_err(|e| Error::Adapter(format!("{CONFIG}: {e}")))?;
    let tensors = hub::read_tensors(WEIGHTS, &read(WEIGHTS)?.ok_or_else(|| absent(WEIGHTS))?)?;
    let method = method(&about, config, &tensors)?;
    let mut weights = method.method().read_peft(config, tensors)?;
    weights.sort_by(|a, b| a.name.cmp(&b.name));
    let base = about.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default().to_owned();
    let adapter = Adapter { method, base, weights };
    adapter.fits(config)?;
    Ok(adapter)
}

/// As [`load`], from a directory.
///
/// # Errors
/// As [`load`].
pub fn load_dir(config: &ModelConfig, dir: &Path) -> Result<Adapter, Error> {
    load(config, |file| hub::read_file(&dir.join(file)))
}

impl Adapter {
    fn fits(&self, config: &ModelConfig) -> Result<(), Error> {
        let method = self.method.method();
        method.validate(config)?;
        let wanted: BTreeMap<String, Vec<usize>> =
            method.added(config)?.into_iter().map(|added| (added.name, added.shape)).collect();
        for tensor in &self.weights {
            match wanted.get(&tensor.name) {
                Some(shape) if *shape == tensor.shape => {}
                Some(shape) => {
                    return Err(Error::Adapter(format!(
                        "{} has shape {:?} where the model wants {shape:?}",
                        tensor.name, tensor.shape
                    )));
                }
                None => {
                    return Err(Error::Adapter(format!(
                        "{} has a place in no model of this shape",
                        tensor.name
                    )));
                }
            }
        }
        let found: BTreeSet<&String> = self.weights.iter().map(|tensor| &tensor.name).collect();
        match wanted.keys().find(|name| !found.contains(name)) {
            Some(name) => Err(Error::Adapter(format!("{WEIGHTS} has no tensor for {name}"))),
            None => Ok(()),
        }
    }

    /// The weights, flat in order of name: what [`crate::model::WeightStore::set`] takes.
    #[must_use]
    pub fn flat(&self) -> Vec<f32> {
        self.weights.iter().flat_map(|tensor| &tensor.numbers).copied().collect()
    }

    /// A model of a base (flat in order of name) with this adapter.
    ///
    /// # Errors
    /// As [`build`].
    pub fn build(
        &self,
        config: ModelConfig,
        base: Vec<f32>,
        precision: Precision,
        device: &Device,
    ) -> Result<Decoder, Error> {
        let decoder = build(config, base, &self.method, precision, device, 0)?;
        decoder.store().set(&self.flat())?;
        Ok(decoder)
    }
}

/// Fields that change what an adapter computes and are not supported, with their neutral values.
const REFUSED: [(&str, &[&str]); 17] = [
    ("bias", &["\"none\""]),
    ("fan_in_fan_out", &["false"]),
    ("use_dora", &["false"]),
    ("use_qalora", &["false"]),
    ("use_bdlora", &["false"]),
    ("lora_bias", &["false"]),
    ("rank_pattern", &["{}"]),
    ("alpha_pattern", &["{}"]),
    ("modules_to_save", &["[]"]),
    ("layer_replication", &["[]"]),
    ("trainable_token_indices", &["[]", "{}"]),
    ("target_parameters", &["[]"]),
    ("alora_invocation_tokens", &["[]"]),
    ("arrow_config", &["{}"]),
    ("kasa_config", &["{}"]),
    ("monteclora_config", &["{}"]),
    // Other initialisations subtract something from the base, which the base given here still has.
    ("init_lora_weights", &["true", "false", "\"gaussian\"", "\"orthogonal\"", "\"eva\""]),
];

fn method(
    about: &Map<String, Value>,
    config: &ModelConfig,
    tensors: &[NamedTensor],
) -> Result<MethodConfig, Error> {
    let wrong = |reason: String| Error::Adapter(format!("{CONFIG}: {reason}"));
    for (field, neutral) in REFUSED {
        let value = about.get(field).unwrap_or(&Value::Null);
        if !value.is_null() && !neutral.contains(&value.to_string().as_str()) {
            return Err(wrong(format!("{field} = {value} is not built; {} is", neutral[0])));
        }
    }
    let number = |field: &str| {
        about
            .get(field)
            .and_then(Value::as_f64)
            .ok_or_else(|| wrong(format!("{field} is missing or not a number")))
    };
    let count = |field: &str| {
        let count = about.get(field).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| wrong(format!("{field} is missing or not a count")))
    };
    let flag = |field: &str| about.get(field).and_then(Value::as_bool).unwrap_or(false);
    match about.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => Ok(MethodConfig::Lora(LoraConfig {
            targets: targets(config, tensors)?,
            r: count("r")?,
            alpha: number("lora_alpha")?,
            dropout: about.get("lora_dropout").and_then(Value::as_f64).unwrap_or(0.0),
            rslora: flag("use_rslora"),
            base: None,
        })),
        // PEFT saves the output of its prefix projection, so a projection makes no difference here.
        Some("PREFIX_TUNING") => Ok(MethodConfig::Prefix(PrefixTuningConfig {
            virtual_tokens: count("num_virtual_tokens")?,
            spread: None,
        })),
        Some("PROMPT_TUNING") => Ok(MethodConfig::Prompt(PromptTuningConfig {
            virtual_tokens: count("num_virtual_tokens")?,
            ..PromptTuningConfig::default()
        })),
        other => {
            Err(wrong(format!("peft_type {other:?} is not built; LORA, PREFIX_TUNING and PROMPT_TUNING are")))
        }
    }
}

/// The projections that a file has tensors for. The file's `target_modules` may be a pattern, and other
/// fields may narrow it; the tensors show the result.
fn targets(config: &ModelConfig, tensors: &[NamedTensor]) -> Result<TargetModules, Error> {
    let mut modules = BTreeSet::new();
    for tensor in tensors {
        let module = tensor
            .name
            .strip_prefix(PEFT_PREFIX)
            .and_then(|name| name.split_once(".lora_").map(|(module, _)| module));
        let known = |module: &&str| {
            (0..config.num_hidden_layers)
                .any(|layer| PROJECTIONS.iter().any(|part| projection_name(layer, part) == **module))
        };
        let Some(module) = module.filter(known) else {
            return Err(Error::Adapter(format!(
                "{WEIGHTS} has a tensor {}, which is of no projection of the model",
                tensor.name
            )));
        };
        modules.insert(module.to_owned());
    }
    if modules.is_empty() {
        return Err(Error::Adapter(format!("{WEIGHTS} has no tensors")));
    }
    let everywhere = |part: &str| {
        (0..config.num_hidden_layers).all(|layer| modules.contains(&projection_name(layer, part)))
    };
    let parts: Vec<String> =
        PROJECTIONS.iter().filter(|part| everywhere(part)).map(|part| (*part).to_owned()).collect();
    if parts.len() * config.num_hidden_layers != modules.len() {
        return Ok(TargetModules::Named(modules.into_iter().collect()));
    }
    Ok(if parts.len() == PROJECTIONS.len() {
        TargetModules::All(ALL_LINEAR.to_owned())
    } else {
        TargetModules::Named(parts)
    })
}
