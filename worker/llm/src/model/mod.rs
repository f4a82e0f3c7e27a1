//! A llama-style model whose every layer can be trained.
//!
//! candle's own fused layers (`rms_norm`, `softmax_last_dim`, `rope`, `sdpa`) have no backward and drop the
//! graph in silence, so the layers here are ours: see [`ops`]. Names of weights and configuration follow
//! the Hugging Face layout, so that other tools can open what we write.

pub mod config;
pub mod llama;
pub mod ops;
pub mod weights;

#[cfg(test)]
mod reference;

pub use config::ModelConfig;
pub use llama::Llama;
pub use weights::Weights;

/// What can fail in a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tensor library refused an operation.
    #[error("compute: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The configuration contradicts itself.
    #[error("use the model configuration: {0}")]
    Config(String),
    /// A weight is absent, has another shape, or is not expected.
    #[error("match the weights to the configuration: {0}")]
    Weights(String),
    /// A trainable weight got no gradient, which would leave it untrained in silence.
    #[error("find a gradient for {0}")]
    NoGradient(String),
    /// The tokens given don't fit the model.
    #[error("use the tokens: {0}")]
    Tokens(String),
}
