//! A trainer's state as a checkpoint, and back.

use super::Trainer;
use crate::cpu::simd::instructions;
use crate::model::weights::slots;
use crate::train::Error;
use crate::train::checkpoint::{
    CheckpointContents, CheckpointManifest, ReadFile, RestoredState, Snapshot, VERSION,
};
use muster_host::durable;
use std::sync::Arc;

impl Trainer {
    /// A copy of all that a checkpoint holds, to be written while training goes on. `parent` is the hash of
    /// the previous checkpoint's manifest.
    ///
    /// # Errors
    /// When a device can't be read.
    pub fn snapshot(&self, parent: Option<String>) -> Result<Snapshot, Error> {
        let slots = Arc::clone(self.model.store().slots());
        Ok(Snapshot::new(self.manifest(parent), slots, self.weights()?, self.moments()?))
    }

    /// Resumes from a checkpoint of this run, bit for bit. `read` returns a file of the manifest.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when it is damaged, or of other parameters or data; nothing is then changed.
    pub fn restore(&mut self, manifest: &CheckpointManifest, read: ReadFile<'_>) -> Result<(), Error> {
        manifest.expect_run(&self.manifest(None))?;
        let RestoredState { weights, moments } = manifest.numbers(self.model.store().slots(), read)?;
        self.put(manifest.state.clone(), &weights, moments)?;
        self.loss = manifest.loss;
        Ok(())
    }

    /// Hash of the parameters, the model's configuration and the trained weights' names and shapes, as JSON
    /// text (a float that was read from JSON may lack its last bit).
    #[must_use]
    pub fn config_hash(&self) -> String {
        let slots: Vec<_> = self.model.store().slots().iter().map(|slot| (&slot.name, &slot.shape)).collect();
        // Plain data without maps of other keys than strings are JSON.
        let json = serde_json::to_vec(&(&self.config, self.model.config(), slots)).unwrap_or_default();
        durable::hash(&json)
    }

    /// Whether the model's weights are all trained, so that a checkpoint is a whole model.
    #[must_use]
    pub fn trains_all(&self) -> bool {
        let whole = slots(self.model.config());
        let trained = self.model.store().slots();
        whole.len() == trained.len()
            && whole.iter().zip(trained.iter()).all(|(a, b)| (&a.name, &a.shape) == (&b.name, &b.shape))
    }

    /// Describes the run as it is; names no files.
    fn manifest(&self, parent: Option<String>) -> CheckpointManifest {
        CheckpointManifest {
            version: VERSION,
            state: self.state.clone(),
            loss: self.loss,
            config: self.config.clone(),
            model: self.model.config().clone(),
            holds: if self.trains_all() { CheckpointContents::Model } else { CheckpointContents::Trained },
            config_hash: self.config_hash(),
            data_hash: self.dataset.info().hash.clone(),
            parent,
            instructions: instructions().to_owned(),
            threads: self.compute.threads(),
            files: Vec::new(),
        }
    }
}
