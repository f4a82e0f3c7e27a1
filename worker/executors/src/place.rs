//! Where a model is.

use muster_protocol::ids::Digest;
use std::fmt;
use std::path::Path;

/// How many adapters may have been trained one upon the other.
pub const ADAPTERS_MAX: usize = 16;

/// A model can't be found or put together.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("find the base `{base}`: it is neither a directory on this worker nor an artifact (blake3:…)")]
    NoBase { base: String },
    #[error("find the model: stage `{stage}` has no rank 0")]
    NoRank0 { stage: String },
    #[error("find the base of the adapter in {place}: it was trained from scratch and not saved")]
    BaseNotKept { place: ModelPlace },
    #[error("find the base of the adapter in {place}: more than {ADAPTERS_MAX} adapters are stacked")]
    TooManyAdapters { place: ModelPlace },
    #[error("use the adapter in {place}: its base {base} has a prefix or a prompt of its own")]
    BaseHasRows { place: ModelPlace, base: ModelPlace },
    #[error("name the artifact of {file}: {reason}")]
    FileHash { file: String, reason: String },
}

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelPlace {
    /// A directory on this worker, in the Hugging Face layout.
    Directory(String),
    /// A checkpoint, or an artifact that lists the files of a model.
    Artifact(Digest),
}

impl ModelPlace {
    /// What a parameter or an adapter names.
    pub fn named(text: &str) -> Result<ModelPlace, ModelError> {
        match text.parse() {
            Ok(hash) => Ok(ModelPlace::Artifact(hash)),
            Err(_) if Path::new(text).is_dir() => Ok(ModelPlace::Directory(text.to_owned())),
            Err(_) => Err(ModelError::NoBase { base: text.to_owned() }),
        }
    }
}

impl fmt::Display for ModelPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelPlace::Directory(dir) => f.write_str(dir),
            ModelPlace::Artifact(hash) => hash.fmt(f),
        }
    }
}
