//! Decoders of the Llama family whose every weight can be trained.
//!
//! candle's own models use operations without a backward pass (`rms_norm`, `softmax_last_dim`, `rope`,
//! `sdpa`) that silently drop the graph, so these are built from [`crate::ops`]. Names of weights and
//! configuration follow the Hugging Face layout, so that other tools can read what is written here, and the
//! reverse.
//!
//! - [`config`], [`rope_scaling`]: the shape. [`store`]: the weights. [`weights`]: their initial values.
//! - [`layer`], [`decoder`]: the forward pass. [`hub`]: directories in the Hugging Face layout.

pub mod config;
pub mod decoder;
pub mod hub;
pub mod layer;
pub mod rope_scaling;
pub mod store;
pub mod weights;

#[cfg(test)]
mod tests;

pub use config::{Family, ModelConfig};
pub use decoder::Decoder;
pub use store::{Precision, WeightRole, WeightStore};

use crate::device::is_out_of_memory;

/// What can fail in a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tensor library refused an operation.
    #[error("compute: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A device's memory is too small for the weights.
    #[error("find memory on the device for weights of {:.2} GB: out of memory ({reason})", *bytes as f64 / 1e9)]
    Memory {
        /// Bytes that the weights take.
        bytes: usize,
        /// The driver's error.
        reason: String,
    },
    /// The configuration is inconsistent.
    #[error("use the model configuration: {0}")]
    Config(String),
    /// A weight is absent, has another shape, or is not expected.
    #[error("match the weights to the configuration: {0}")]
    Weights(String),
    /// A file of a model could not be read or written.
    #[error("{what} {file}: {reason}")]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        file: String,
        /// The reason.
        reason: String,
    },
    /// A trainable weight got no gradient, and would silently stay untrained.
    #[error("find a gradient for {0}")]
    NoGradient(String),
    /// The tokens given don't fit the model.
    #[error("use the tokens: {0}")]
    Tokens(String),
}

impl Error {
    /// The same error; if a device ran out of memory, one that names the `bytes` to be placed.
    pub(crate) fn explain_memory(self, bytes: usize) -> Self {
        let reason = self.to_string();
        if is_out_of_memory(&reason) { Self::Memory { bytes, reason } } else { self }
    }
}
