//! What can fail in a method.

/// What can fail in a method.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The tensor library refused an operation.
    #[error("compute: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The parameters of a method are out of bounds, or do not fit the model.
    #[error("use the method {method}: {reason}")]
    Method {
        /// Its name.
        method: &'static str,
        /// The reason, with what would be right.
        reason: String,
    },
    /// A LoRA target matches no projection.
    #[error("find the target {target:?} in the model: it matches none of {there}")]
    Target {
        /// The target.
        target: String,
        /// The projections of the model.
        there: String,
    },
    /// A file of an adapter is damaged, of another model, or asks for something that is not supported.
    #[error("read the adapter: {0}")]
    Adapter(String),
    /// A weight that should be trained has no gradient, or a frozen one has.
    #[error("train what the method {method} trains: {reason}")]
    Untrained {
        /// Its name.
        method: &'static str,
        /// The weight, and the reason.
        reason: String,
    },
}

/// An error about the parameters of a method.
pub(super) fn invalid(method: &'static str, reason: impl Into<String>) -> Error {
    Error::Method { method, reason: reason.into() }
}
