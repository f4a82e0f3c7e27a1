//! Decoders of the llama kind whose every weight can be trained.
//!
//! candle's own models (`rms_norm`, `softmax_last_dim`, `rope`, `sdpa`) have no backward and drop the graph
//! in silence, so ours are built from [`crate::ops`]. Names of weights and configuration follow the Hugging
//! Face layout, so that other tools open what we write, and we what they wrote.
//!
//! - [`config`], [`rope_scaling`]: the shape. [`store`]: the numbers. [`weights`]: what they start from.
//! - [`block`], [`decoder`]: the forward pass. [`hub`]: directories in the Hugging Face layout.

pub mod block;
pub mod config;
pub mod decoder;
pub mod hub;
pub mod rope_scaling;
pub mod store;
pub mod weights;

#[cfg(test)]
mod reference;

pub use config::{Family, ModelConfig};
pub use decoder::Decoder;
pub use store::{Hold, Precision, Store};

/// What can fail in a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tensor library refused an operation.
    #[error("compute: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A device's memory is too small for the weights.
    #[error("find memory on the device for weights of {:.2} GB: out of memory ({reason})", *bytes as f64 / 1e9)]
    Memory {
        /// What the weights take.
        bytes: usize,
        /// What the device's driver said.
        reason: String,
    },
    /// The configuration contradicts itself.
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
        /// Which.
        file: String,
        /// Why it failed.
        reason: String,
    },
    /// A trainable weight got no gradient, which would leave it untrained in silence.
    #[error("find a gradient for {0}")]
    NoGradient(String),
    /// The tokens given don't fit the model.
    #[error("use the tokens: {0}")]
    Tokens(String),
}

impl Error {
    /// The same, but where memory was short it names the bytes that were to be placed.
    pub(crate) fn for_want_of(self, bytes: usize) -> Self {
        let reason = self.to_string();
        if crate::compute::is_out_of_memory(&reason) { Self::Memory { bytes, reason } } else { self }
    }
}
