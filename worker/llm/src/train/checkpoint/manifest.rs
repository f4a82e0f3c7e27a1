//! A checkpoint's description, and whether it is of a given run.

use crate::cpu::simd::instructions;
use crate::model::ModelConfig;
use crate::train::{Error, TrainConfig, TrainState};
use muster_host::durable;
use serde::{Deserialize, Serialize};

/// The layout's version.
pub const VERSION: u32 = 2;

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its blake3 hash in hex.
    pub hash: String,
}

/// Returns the bytes of a file, or the reason why it can't be read.
pub type ReadFile<'a> = &'a dyn Fn(&CheckpointFile) -> Result<Vec<u8>, String>;

/// Which weights a checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointContents {
    /// A whole model.
    Model,
    /// The trained weights only; the base is elsewhere.
    Trained,
}

/// A checkpoint's description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointManifest {
    /// The layout's version.
    pub version: u32,
    /// The run's progress.
    pub state: TrainState,
    /// The last step's mean loss.
    pub loss: Option<f64>,
    /// The run's parameters.
    pub config: TrainConfig,
    /// The model's shape.
    pub model: ModelConfig,
    /// Which weights it holds.
    pub holds: CheckpointContents,
    /// Hash of the parameters, the model and the trained weights' shapes.
    pub config_hash: String,
    /// Hash of the data set; see [`crate::train::DatasetInfo::hash`].
    pub data_hash: String,
    /// Hash of the previous checkpoint's manifest, if there is one.
    pub parent: Option<String>,
    /// The instruction set that it was computed with; with another, the last bits may differ.
    pub instructions: String,
    /// The number of threads that it was computed with; with another, the last bits may differ.
    pub threads: usize,
    /// All other files, in order of name.
    pub files: Vec<CheckpointFile>,
}

impl CheckpointManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the bytes are not a manifest, or it is inconsistent.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|e| Error::Checkpoint(format!("its manifest: {e}")))?;
        if manifest.version != VERSION {
            return Err(Error::Checkpoint(format!(
                "it has version {}, and {VERSION} is known",
                manifest.version
            )));
        }
        let refused = |e: &dyn std::fmt::Display| Error::Checkpoint(format!("its manifest: {e}"));
        manifest.model.validate().map_err(|e| refused(&e))?;
        manifest.config.validate().map_err(|e| refused(&e))?;
        let TrainState { step, cursor, skipped } = &manifest.state;
        let in_order = skipped.windows(2).all(|pair| pair[0].end < pair[1].start)
            && skipped.iter().all(|range| !range.is_empty());
        if *step > manifest.config.steps || !in_order {
            let steps = manifest.config.steps;
            return Err(Error::Checkpoint(format!(
                "it is at step {step} of {steps}, sample {cursor}, without {skipped:?}"
            )));
        }
        Ok(manifest)
    }

    /// Its bytes; equal manifests give equal bytes.
    ///
    /// # Errors
    /// When a number can't be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec_pretty(self)
            .map_err(|e| Error::Keep { file: super::MANIFEST.to_owned(), reason: e.to_string() })
    }

    /// Reads a file and checks its hash; `None` if the checkpoint has no file of that name.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming a file that can't be read or is not what was written.
    pub fn file(&self, name: &str, read: ReadFile<'_>) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.files.iter().find(|file| file.name == name) else { return Ok(None) };
        let bytes = read(file).map_err(|reason| Error::Checkpoint(format!("its file {name}: {reason}")))?;
        let hash = durable::hash(&bytes);
        if hash != file.hash {
            let (len, wanted) = (bytes.len(), file.bytes);
            return Err(Error::Checkpoint(format!(
                "its file {name} is damaged: {len} bytes with hash {hash} where {wanted} with {} were written",
                file.hash
            )));
        }
        Ok(Some(bytes))
    }

    /// Checks that this checkpoint is of the same run as `current`, a manifest of the run as it is now.
    pub(in crate::train) fn expect_run(&self, current: &CheckpointManifest) -> Result<(), Error> {
        if self.data_hash != current.data_hash {
            return Err(Error::Checkpoint(format!(
                "it is of a run on other data, {} instead of {}",
                self.data_hash, current.data_hash
            )));
        }
        if self.config_hash != current.config_hash {
            let (theirs, ours) = ((&self.config, &self.model), (&current.config, &current.model));
            return Err(Error::Checkpoint(format!(
                "it is of a run with other parameters or another model, {theirs:?} instead of {ours:?}"
            )));
        }
        Ok(())
    }

    /// Why resuming with `threads` threads on this machine may not give the bits that the previous machine
    /// would have given; `None` if it gives them.
    #[must_use]
    pub fn differs(&self, threads: usize) -> Option<String> {
        let (theirs, ours) = ((self.instructions.as_str(), self.threads), (instructions(), threads));
        (theirs != ours).then(|| {
            format!(
                "it was computed with {} and {} threads, and goes on with {} and {}: the last bits may differ",
                theirs.0, theirs.1, ours.0, ours.1
            )
        })
    }
}
