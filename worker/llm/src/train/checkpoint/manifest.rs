//! What a checkpoint says of itself, and whether it is of a given run.

use super::Read;
use crate::model::ModelConfig;
use crate::ops::simd::instructions;
use crate::train::{Error, State, TrainConfig, Trainer};
use muster_host::durable;
use serde::{Deserialize, Serialize};

/// The layout's version.
pub const VERSION: u32 = 2;

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its blake3 hash in hex.
    pub hash: String,
}

/// What the weights of a checkpoint are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// A whole model.
    Model,
    /// Those that were trained, on a base that is elsewhere.
    Trained,
}

/// A checkpoint's description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The layout's version.
    pub version: u32,
    /// Where the run stood.
    pub state: State,
    /// The last step's mean loss.
    pub loss: Option<f64>,
    /// The run's parameters.
    pub config: TrainConfig,
    /// The model's shape.
    pub model: ModelConfig,
    /// What the weights are.
    pub holds: Holds,
    /// Names the parameters, the model and what of it is trained.
    pub config_hash: String,
    /// Names the samples and their places.
    pub data_hash: String,
    /// Hash of the manifest of the checkpoint before, if there is one.
    pub parent: Option<String>,
    /// The vector instructions that it was computed with; others may differ in the last bit.
    pub instructions: String,
    /// The number of threads that it was computed with; likewise.
    pub threads: usize,
    /// All files but this, in order of name.
    pub files: Vec<File>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the bytes are none, or contradict themselves.
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
        let State { step, cursor, skipped } = &manifest.state;
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

    /// Its bytes: the same for the same manifest.
    ///
    /// # Errors
    /// When a number is none.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec_pretty(self)
            .map_err(|e| Error::Keep { file: super::MANIFEST.to_owned(), reason: e.to_string() })
    }

    /// A file, whose hash is checked; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming a file that can't be read or is not what was written.
    pub fn file(&self, name: &str, read: Read<'_>) -> Result<Option<Vec<u8>>, Error> {
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

    /// Checks that the checkpoint is of the trainer's run.
    pub(in crate::train) fn expect(&self, trainer: &Trainer) -> Result<(), Error> {
        let data = &trainer.samples().about().hash;
        if self.data_hash != *data {
            return Err(Error::Checkpoint(format!(
                "it is of a run on other data, {} instead of {data}",
                self.data_hash
            )));
        }
        if self.config_hash != trainer.config_hash() {
            let (theirs, ours) = ((&self.config, &self.model), (trainer.config(), trainer.model().config()));
            return Err(Error::Checkpoint(format!(
                "it is of a run with other parameters or another model, {theirs:?} instead of {ours:?}"
            )));
        }
        Ok(())
    }

    /// Why going on with `threads` threads on this machine may not give the bits that the machine before
    /// would have given.
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
