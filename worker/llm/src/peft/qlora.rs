//! LoRA over a frozen base of quantised blocks, after QLoRA (Dettmers et al. 2023).
//!
//! The blocks are GGUF's `Q4_K` (4.5 bits a number) or `Q8_0` (8.5 bits), not the paper's NF4, and there is
//! no double quantisation and no paging. Projections are in `base`; embedding and output layer in
//! `embeddings`, by default `Q8_0`, since errors there reach every position and every logit; norms and biases
//! stay f32, which is little. Rows that no block divides are held in the next finer form
//! ([`QloraConfig::held`]), and [`super::base_footprint`] says which. A product dequantises one weight at a
//! time.

use super::added::AddedWeight;
use super::added::EMBEDDING;
use super::error::{Error, invalid};
use super::lora::LoraConfig;
use super::method::Method;
use crate::model::{Decoder, ModelConfig, Precision, WeightRole};
use candle_core::quantized::GgmlDType;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The parameters of QLoRA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QloraConfig {
    /// Precision of projections: `q4_k` or `q8_0`.
    pub base: Precision,
    /// Precision of the embedding and the output layer: `q4_k`, `q8_0`, `bf16` or `f32`.
    pub embeddings: Precision,
    /// LoRA's parameters; its own `base` must be absent.
    pub lora: LoraConfig,
}

impl Default for QloraConfig {
    fn default() -> Self {
        Self { base: Precision::Q4K, embeddings: Precision::Q8_0, lora: LoraConfig::default() }
    }
}

impl QloraConfig {
    /// The precision asked for a weight of the base.
    #[must_use]
    pub fn wanted(&self, name: &str, shape: &[usize]) -> Precision {
        match name {
            _ if shape.len() != 2 => Precision::F32,
            EMBEDDING | "lm_head.weight" => self.embeddings,
            _ => self.base,
        }
    }

    /// The precision it gets: the next finer one whose blocks divide its rows.
    #[must_use]
    pub fn held(&self, name: &str, shape: &[usize]) -> Precision {
        let width = shape.last().copied().unwrap_or(0);
        let fits = |kind: GgmlDType| width.is_multiple_of(kind.block_size());
        match self.wanted(name, shape) {
            Precision::Q4K if fits(GgmlDType::Q4K) => Precision::Q4K,
            Precision::Q4K | Precision::Q8_0 if fits(GgmlDType::Q8_0) => Precision::Q8_0,
            Precision::Q4K | Precision::Q8_0 | Precision::Bf16 => Precision::Bf16,
            Precision::F32 => Precision::F32,
        }
    }
}

impl Method for QloraConfig {
    fn name(&self) -> &'static str {
        "qlora"
    }

    fn validate(&self, config: &ModelConfig) -> Result<(), Error> {
        if let dense @ (Precision::F32 | Precision::Bf16) = self.base {
            return Err(invalid(
                "qlora",
                format!("a base in {dense:?} is the method lora; q4_k and q8_0 are for qlora"),
            ));
        }
        if self.lora.base.is_some() {
            return Err(invalid(
                "qlora",
                "lora.base has no meaning here; base says what the base is held in",
            ));
        }
        self.lora.validate(config)
    }

    fn role(&self, name: &str, shape: &[usize], _precision: Precision) -> WeightRole {
        WeightRole::Frozen(self.held(name, shape))
    }

    fn added(&self, config: &ModelConfig) -> Result<Vec<AddedWeight>, Error> {
        self.lora.added(config)
    }

    fn attach(&self, decoder: &mut Decoder) -> Result<(), Error> {
        self.lora.attach(decoder)
    }

    fn starts_without_gradient(&self, name: &str) -> bool {
        self.lora.starts_without_gradient(name)
    }

    fn peft_config(&self, config: &ModelConfig) -> Option<Value> {
        // An adapter does not record the precision of its base.
        self.lora.peft_config(config)
    }
}
