//! Low-rank additions to frozen projections (Hu et al. 2021, LoRA; Kalajdzievski 2023, rsLoRA), and merging
//! them into the weights.
//!
//! Parameters, defaults and names are PEFT's. A starts Kaiming-uniform and B at zero, so that training starts
//! from the base itself; therefore A has no gradient before the first step.

use super::{Added, Error, Init, Method, wrong};
use crate::model::block::{self, PROJECTIONS, projection_name};
use crate::model::store::Array;
use crate::model::{Decoder, Hold, ModelConfig, Precision, Store};
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// All projections of all blocks; not the output layer, as in PEFT.
pub const ALL_LINEAR: &str = "all-linear";

/// What PEFT puts before the name of a module.
pub const PEFT_PREFIX: &str = "base_model.model.";

/// The greatest rank: beyond it a sum of products of 32-bit sizes might not be countable, and nothing is low
/// about it.
const RANK_MAX: usize = 65_536;

/// Which projections get an addition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    /// `all-linear`.
    All(String),
    /// Names of projections (`q_proj`), or the ends of their full names (`layers.3.self_attn.q_proj`).
    Named(Vec<String>),
}

/// Low-rank additions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Which projections get one.
    pub targets: Targets,
    /// Rank of an addition.
    pub r: usize,
    /// An addition is multiplied with `alpha / r`.
    pub alpha: f64,
    /// The part of an addition's input that is dropped in training.
    pub dropout: f64,
    /// Whether it is multiplied with `alpha / sqrt(r)` instead.
    pub rslora: bool,
    /// What the frozen base is held in: f32 or bf16; as the trained weights if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Precision>,
}

impl Default for Lora {
    fn default() -> Self {
        let targets = Targets::Named(vec!["q_proj".to_owned(), "v_proj".to_owned()]);
        Self { targets, r: 8, alpha: 8.0, dropout: 0.0, rslora: false, base: None }
    }
}

/// A projection that gets an addition.
struct Site {
    layer: usize,
    part: usize,
    module: String,
    /// Width of its input and output.
    inner: usize,
    outer: usize,
}

impl Site {
    fn a(&self) -> String {
        format!("{PEFT_PREFIX}{}.lora_A.weight", self.module)
    }

    fn b(&self) -> String {
        format!("{PEFT_PREFIX}{}.lora_B.weight", self.module)
    }
}

/// All projections of a model, block by block.
fn sites(config: &ModelConfig) -> impl Iterator<Item = Site> {
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
        parts.map(move |(part, (name, (outer, inner)))| Site {
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

impl Lora {
    /// What an addition is multiplied with.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.alpha / if self.rslora { (self.r as f64).sqrt() } else { self.r as f64 }
    }

    fn chosen(&self, config: &ModelConfig) -> Result<Vec<Site>, Error> {
        let named = match &self.targets {
            Targets::All(word) if word == ALL_LINEAR => return Ok(sites(config).collect()),
            Targets::All(word) => std::slice::from_ref(word),
            Targets::Named(named) => named.as_slice(),
        };
        if named.is_empty() {
            return Err(wrong("lora", format!("there are no targets; name projections, or {ALL_LINEAR:?}")));
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

impl Method for Lora {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn validate(&self, config: &ModelConfig) -> Result<(), Error> {
        if self.r == 0 || self.r > RANK_MAX {
            return Err(wrong("lora", format!("r is {}, and must be from 1 to {RANK_MAX}", self.r)));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(wrong("lora", format!("alpha is {}, and must be above 0", self.alpha)));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(wrong("lora", format!("dropout is {}, and must be from 0 to below 1", self.dropout)));
        }
        if let Some(base @ (Precision::Q8_0 | Precision::Q4K)) = self.base {
            return Err(wrong(
                "lora",
                format!("a base in {base:?} is the method qlora; f32 and bf16 are for lora"),
            ));
        }
        self.chosen(config).map(|_| ())
    }

    fn hold(&self, _name: &str, _shape: &[usize], precision: Precision) -> Hold {
        Hold::Frozen(self.base.unwrap_or(precision))
    }

    fn added(&self, config: &ModelConfig) -> Result<Vec<Added>, Error> {
        let pair = |site: Site| {
            // PyTorch's Kaiming-uniform with a slope of sqrt(5), which PEFT takes: the bound is 1 /
            // sqrt(inputs).
            let init = Init::Uniform(1.0 / (site.inner as f64).sqrt());
            [
                Added { name: site.a(), shape: vec![self.r, site.inner], init },
                Added { name: site.b(), shape: vec![site.outer, self.r], init: Init::Zeros },
            ]
        };
        Ok(self.chosen(config)?.into_iter().flat_map(pair).collect())
    }

    fn attach(&self, decoder: &mut Decoder) -> Result<(), Error> {
        let mut additions = Vec::new();
        for site in self.chosen(decoder.config())? {
            let (a, b) = (decoder.store().get(&site.a())?, decoder.store().get(&site.b())?);
            let number = (site.layer * PROJECTIONS.len() + site.part) as u64;
            additions
                .push((site, block::Lora { a, b, scale: self.scale(), dropout: self.dropout, site: number }));
        }
        let mut additions = additions.into_iter().peekable();
        for (layer, block) in decoder.blocks_mut().enumerate() {
            while let Some((site, addition)) = additions.next_if(|(site, _)| site.layer == layer) {
                block.projections_mut()[site.part].lora = Some(addition);
            }
        }
        Ok(())
    }

    fn starts_silent(&self, name: &str) -> bool {
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

/// The model with its additions in its weights: plain, frozen, in f32 on the CPU, to be written by
/// [`crate::model::hub::save`]. A quantised base is taken as it acts, not as it was before it was quantised.
///
/// # Errors
/// When the model has learnt rows or keys before its sequences, which no weight can hold.
pub fn merge(decoder: &Decoder) -> Result<Decoder, Error> {
    if decoder.prompt().is_some() || decoder.blocks().any(|block| block.prefix().is_some()) {
        let reason = "what comes before each sequence is in no weight, and can't be merged into one";
        return Err(wrong(if decoder.prompt().is_some() { "prompt" } else { "prefix" }, reason));
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
        arrays.push(Array { name, shape, numbers, hold: Hold::Frozen(Precision::F32) });
    }
    for (layer, block) in decoder.blocks().enumerate() {
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
    Ok(Decoder::new(config.clone(), Store::new(arrays, Precision::F32, &Device::Cpu)?)?)
}
