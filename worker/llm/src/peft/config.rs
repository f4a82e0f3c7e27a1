//! The methods with their parameters.

use super::full::FullConfig;
use super::lora::LoraConfig;
use super::method::Method;
use super::prefix::PrefixTuningConfig;
use super::prompt::PromptTuningConfig;
use super::qlora::QloraConfig;
use serde::{Deserialize, Serialize};

/// A method with its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum MethodConfig {
    /// Every weight is trained.
    Full(FullConfig),
    /// Low-rank additions to projections.
    Lora(LoraConfig),
    /// Low-rank additions over a base of GGUF's quantised blocks (`Q4_K`, `Q8_0`; not NF4).
    Qlora(QloraConfig),
    /// Learnt keys and values before each sequence, in each layer.
    Prefix(PrefixTuningConfig),
    /// Learnt embeddings before each sequence.
    Prompt(PromptTuningConfig),
}

impl Default for MethodConfig {
    fn default() -> Self {
        Self::Full(FullConfig::default())
    }
}

impl MethodConfig {
    /// Its method.
    #[must_use]
    pub fn method(&self) -> &dyn Method {
        match self {
            Self::Full(method) => method,
            Self::Lora(method) => method,
            Self::Qlora(method) => method,
            Self::Prefix(method) => method,
            Self::Prompt(method) => method,
        }
    }
}
