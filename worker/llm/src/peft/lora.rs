//! LoRA: low-rank additions to frozen projections (Hu et al. 2021; rsLoRA, Kalajdzievski 2023), and merging
//! them into the weights.
//!
//! Parameters, defaults and names are PEFT's. A starts Kaiming-uniform and B at zero, so that training starts
//! from the base itself; therefore A's gradient is zero before the first step. It has no backward pass of its
//! own: `Projection::apply` in `model/layer.rs` composes it of `linear`, `dropout`, `scale` and `linear`,
//! each of which records its own on the tape.

use super::added::{AddedWeight, WeightInit};
use super::error::{Error, invalid};
use super::method::Method;
use crate::model::layer::{self, PROJECTIONS, projection_name};
use crate::model::store::InitialWeight;
use crate::model::{Decoder, ModelConfig, Precision, WeightRole, WeightStore};
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// All projections of all blocks; not the output layer, as in PEFT.
pub const ALL_LINEAR: &str = "all-linear";

/// What PEFT puts before the name of a module.
pub const PEFT_PREFIX: &str = "base_model.model.";

/// The greatest rank; a bound that keeps products of sizes from overflowing.
const RANK_MAX: usize = 65_536;

/// Which projections get LoRA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// `all-linear`.
    All(String),
    /// Names of projections (`q_proj`), or the ends of their full names (`layers.3.self_attn.q_proj`).
    Named(Vec<String>),
}

/// The parameters of LoRA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Which projections get it (PEFT's `target_modules`).
    pub targets: TargetModules,
    /// Rank.
    pub r: usize,
    /// The addition is multiplied with `alpha / r` (PEFT's `lora_alpha`).
    pub alpha: f64,
    /// Probability of dropout of the addition's input in training (PEFT's `lora_dropout`).
    pub dropout: f64,
    /// Multiplies with `alpha / sqrt(r)` instead (PEFT's `use_rslora`).
    pub rslora: bool,
    /// Precision of the frozen base: f32 or bf16; that of the trained weights if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Precision>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        let targets = TargetModules::Named(vec!["q_proj".to_owned(), "v_proj".to_owned()]);
        Self { targets, r: 8, alpha: 8.0, dropout: 0.0, rslora: false, base: None }
    }
}

/// A projection that can get LoRA.
struct TargetLinear {
    layer: usize,
    part: usize,
    module: String,
    /// Width of its input and output.
    inner: usize,
    outer: usize,
}

impl TargetLinear {
    fn a(&self) -> String {
        format!("{PEFT_PREFIX}{}.lora_A.weight", self.module)
    }

    fn b(&self) -> String {
        format!("{PEFT_PREFIX}{}.lora_B.weight", self.module)
    }
}

/// All projections of a model, layer by layer.
fn sites(config: &ModelConfig) -> impl Iterator<Item = TargetLinear> {
    let (hidden, wide) = (config.hidden_size, config.intermediate_size);
    let (query, key_value) = (config.query_size(), config.key_value_size());
    let shapes = [
        (query, hidden),
        (key_value, hidden),
        (key_value, hidden),
        (hidden, query),
        (wide, hidden),
        (wide, hidden),
        (hidden, wide),
    ];
    (0..config.num_hidden_layers).flat_map(move |layer| {
        let parts = PROJECTIONS.iter().zip(shapes).enumerate();
        parts.map(move |(part, (name, (outer, inner)))| TargetLinear {
            layer,
            part,
            module: projection_name(layer, name),
            inner,
            outer,
        })
    })
}

/// As PEFT matches: the whole name, or its end after a dot.
fn matches(module: &str, target: &str) -> bool {
    module == target || module.strip_suffix(target).is_some_and(|rest| rest.ends_with('.'))
}

impl LoraConfig {
    /// The factor of the addition.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.alpha / if self.rslora { (self.r as f64).sqrt() } else { self.r as f64 }
    }

    fn chosen(&self, config: &ModelConfig) -> Result<Vec<TargetLinear>, Error> {
        let named = match &self.targets {
            TargetModules::All(word) if word == ALL_LINEAR => return Ok(sites(config).collect()),
            TargetModules::All(word) => std::slice::from_ref(word),
            TargetModules::Named(named) => named.as_slice(),
        };
        if named.is_empty() {
            return Err(invalid(
                "lora",
                format!("there are no targets; name projections, or {ALL_LINEAR:?}"),
            ));
        }
        if let Some(target) = named
            .iter()
            .find(|target| target.is_empty() || !sites(config).any(|site| matches(&site.module, target)))
        {
            let there = format!(
                "{}, of model.layers.0 to {}, nor is it {ALL_LINEAR:?}",
                PROJECTIONS.join(", "),
                config.num_hidden_layers.saturating_sub(1)
            );
            return Err(Error::Target { target: target.clone(), there });
        }
        Ok(sites(config).filter(|site| named.iter().any(|target| matches(&site.module, target))).collect())
    }
}

impl Method for LoraConfig {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn validate(&self, config: &ModelConfig) -> Result<(), Error> {
        if self.r == 0 || self.r > RANK_MAX {
            return Err(invalid("lora", format!("r is {}, and must be from 1 to {RANK_MAX}", self.r)));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(invalid("lora", format!("alpha is {}, and must be above 0", self.alpha)));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(invalid(
                "lora",
                format!("dropout is {}, and must be from 0 to below 1", self.dropout),
            ));
        }
        if let Some(base @ (Precision::Q8_0 | Precision::Q4K)) = self.base {
            return Err(invalid(
                "lora",
                format!("a base in {base:?} is the method qlora; f32 and bf16 are for lora"),
            ));
        }
        self.chosen(config).map(|_| ())
    }

    fn role(&self, _name: &str, _shape: &[usize], precision: Precision) -> WeightRole {
        WeightRole::Frozen(self.base.unwrap_or(precision))
    }

    fn added(&self, config: &ModelConfig) -> Result<Vec<AddedWeight>, Error> {
        let pair = |site: TargetLinear| {
            // PyTorch's Kaiming-uniform with a slope of sqrt(5), which PEFT takes: the bound is 1 /
            // sqrt(inputs).
            let init = WeightInit::Uniform(1.0 / (site.inner as f64).sqrt());
            [
                AddedWeight { name: site.a(), shape: vec![self.r, site.inner], init },
                AddedWeight { name: site.b(), shape: vec![site.outer, self.r], init: WeightInit::Zeros },
            ]
        };
        Ok(self.chosen(config)?.into_iter().flat_map(pair).collect())
    }

    fn attach(&self, decoder: &mut Decoder) -> Result<(), Error> {
        let mut additions = Vec::new();
        for site in self.chosen(decoder.config())? {
            let (a, b) = (decoder.store().get(&site.a())?, decoder.store().get(&site.b())?);
            let number = (site.layer * PROJECTIONS.len() + site.part) as u64;
            additions.push((
                site,
                layer::LoraAdapter { a, b, scale: self.scale(), dropout: self.dropout, site: number },
            ));
        }
        let mut additions = additions.into_iter().peekable();
        for (layer, block) in decoder.layers_mut().enumerate() {
            while let Some((site, addition)) = additions.next_if(|(site, _)| site.layer == layer) {
                block.projections_mut()[site.part].lora = Some(addition);
            }
        }
        Ok(())
    }

    fn starts_without_gradient(&self, name: &str) -> bool {
        name.ends_with(".lora_A.weight")
    }

    fn peft_config(&self, _config: &ModelConfig) -> Option<Value> {
        // PEFT's type for alpha is an integer, though it takes any number.
        let alpha = if self.alpha.fract() == 0.0 { json!(self.alpha as i64) } else { json!(self.alpha) };
        Some(json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "inference_mode": true,
            "target_modules": self.targets,
            "r": self.r,
            "lora_alpha": alpha,
            "lora_dropout": self.dropout,
            "use_rslora": self.rslora,
            "use_dora": false,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "rank_pattern": {},
            "alpha_pattern": {},
            "modules_to_save": null,
            "layers_to_transform": null,
            "layers_pattern": null,
        }))
    }
}

/// The model with its LoRA merged into the weights: frozen, in f32 on the CPU, to be written by
/// [`crate::model::hub::save`]. A quantised base is merged as it is, dequantised.
///
/// # Errors
/// When the model has a learnt prompt or prefix, which can't be merged into a weight.
pub fn merge(decoder: &Decoder) -> Result<Decoder, Error> {
    if decoder.prompt().is_some() || decoder.layers().any(|block| block.prefix().is_some()) {
        let reason = "what comes before each sequence is in no weight, and can't be merged into one";
        return Err(invalid(if decoder.prompt().is_some() { "prompt" } else { "prefix" }, reason));
    }
    let (config, store) = (decoder.config(), decoder.store());
    let mut arrays = Vec::new();
    for (name, shape) in config.weight_shapes() {
        let numbers = store
            .get(&name)?
            .dense(DType::F32, store.device())?
            .to_device(&Device::Cpu)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        arrays.push(InitialWeight { name, shape, numbers, role: WeightRole::Frozen(Precision::F32) });
    }
    for (layer, block) in decoder.layers().enumerate() {
        for (projection, part) in block.projections().iter().zip(PROJECTIONS) {
            let Some(lora) = &projection.lora else { continue };
            let name = format!("{}.weight", projection_name(layer, part));
            let [a, b] = [&lora.a, &lora.b].map(|weight| weight.dense(DType::F32, store.device()));
            let addition =
                (b?.matmul(&a?)? * lora.scale)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
            let array = arrays.iter_mut().find(|array| array.name == name);
            let array = array.ok_or_else(|| crate::model::Error::Weights(format!("there is no {name}")))?;
            array.numbers.iter_mut().zip(addition).for_each(|(number, addition)| *number += addition);
        }
    }
    Ok(Decoder::new(config.clone(), WeightStore::new(arrays, Precision::F32, &Device::Cpu)?)?)
}
