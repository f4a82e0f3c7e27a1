//! A copy of a run's state, taken between two steps, that is written while training goes on.
//!
//! It costs a copy of the weights and of both moments; writing it also needs one file's bytes at a time. The
//! caller's `put` gets the files, the manifest last.

use super::{
    CheckpointContents, CheckpointFile, CheckpointManifest, FILE_BYTES, FIRST, MANIFEST, MASTER, SECOND,
    TRAINED, optimizer_file,
};
use crate::autograd::Slot;
use crate::model::hub::{self, NamedTensor};
use crate::model::weights::to_safetensors;
use crate::model::{ModelConfig, Precision};
use crate::train::Error;
use crate::train::adamw::Moments;
use candle_core::DType;
use muster_host::durable;
use std::ops::Range;
use std::sync::Arc;

/// All that a checkpoint holds.
pub struct Snapshot {
    manifest: CheckpointManifest,
    slots: Arc<[Slot]>,
    weights: Vec<f32>,
    moments: Moments,
    extra: Vec<(String, Vec<u8>)>,
}

impl Snapshot {
    /// `manifest` describes the run as it is, and names no files yet.
    pub(in crate::train) fn new(
        manifest: CheckpointManifest,
        slots: Arc<[Slot]>,
        weights: Vec<f32>,
        moments: Moments,
    ) -> Self {
        Self { manifest, slots, weights, moments, extra: Vec::new() }
    }

    /// The step that it was taken at.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.manifest.state.step
    }

    /// Its manifest, which names no files yet.
    #[must_use]
    pub fn manifest(&self) -> &CheckpointManifest {
        &self.manifest
    }

    /// The slots of the trained weights.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The trained weights, flat.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Adds files, such as an adapter in its own layout or a tokenizer.
    #[must_use]
    pub fn with(mut self, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        self.extra.extend(files);
        self
    }

    /// Replaces the loss of the trainer's last step, for example by the mean over replicas.
    #[must_use]
    pub fn with_loss(mut self, loss: f64) -> Self {
        self.manifest.loss = Some(loss);
        self
    }

    /// Passes every file to `put`, the manifest last, and returns the manifest with its bytes.
    ///
    /// # Errors
    /// [`Error::Keep`] naming the file that could not be made or kept, or that is there twice.
    pub fn write(
        mut self,
        mut put: impl FnMut(&str, &[u8]) -> Result<(), String>,
    ) -> Result<(CheckpointManifest, Vec<u8>), Error> {
        let mut files: Vec<CheckpointFile> = Vec::new();
        let mut keep = |name: String, bytes: &[u8]| {
            let failed = |reason: String| Error::Keep { file: name.clone(), reason };
            if name == MANIFEST || files.iter().any(|file| file.name == name) {
                return Err(failed("there are two of that name".to_owned()));
            }
            put(&name, bytes).map_err(failed)?;
            files.push(CheckpointFile { bytes: bytes.len() as u64, hash: durable::hash(bytes), name });
            Ok(())
        };
        match self.manifest.holds {
            CheckpointContents::Model => {
                for (name, bytes) in model_files(
                    &self.manifest.model,
                    &self.slots,
                    &self.weights,
                    self.manifest.config.precision,
                )? {
                    keep(name, &bytes)?;
                }
            }
            CheckpointContents::Trained => {
                let bytes = to_safetensors(&self.slots, &[("", &self.weights)], None)?;
                keep(TRAINED.to_owned(), &bytes)?;
            }
        }
        let mut parts =
            vec![(FIRST, self.moments.first.as_slice()), (SECOND, self.moments.second.as_slice())];
        if self.manifest.config.precision == Precision::Bf16 {
            parts.push((MASTER, self.weights.as_slice()));
        }
        let groups = groups(&self.slots, FILE_BYTES / (4 * parts.len()));
        for (at, group) in groups.iter().enumerate() {
            keep(
                optimizer_file(at, groups.len()),
                &to_safetensors(&self.slots[group.clone()], &parts, None)?,
            )?;
        }
        for (name, bytes) in std::mem::take(&mut self.extra) {
            keep(name, &bytes)?;
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        self.manifest.files = files;
        let bytes = self.manifest.to_bytes()?;
        put(MANIFEST, &bytes).map_err(|reason| Error::Keep { file: MANIFEST.to_owned(), reason })?;
        Ok((self.manifest, bytes))
    }
}

fn model_files(
    config: &ModelConfig,
    slots: &[Slot],
    weights: &[f32],
    precision: Precision,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let dtype = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
    let named = |slot: &Slot| NamedTensor {
        name: slot.name.clone(),
        shape: slot.shape.clone(),
        numbers: weights[slot.range()].to_vec(),
    };
    let mut files = vec![("config.json".to_owned(), hub::write_config(config, dtype)?)];
    files.extend(hub::shards(slots.iter().map(named).collect(), dtype, FILE_BYTES)?);
    Ok(files)
}

/// The slots in groups of at most `numbers` numbers, but at least one.
pub(super) fn groups(slots: &[Slot], numbers: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut held = 0;
    for (at, slot) in slots.iter().enumerate() {
        match groups.last_mut() {
            Some(last) if held + slot.len <= numbers => {
                last.end = at + 1;
                held += slot.len;
            }
            Some(_) | None => {
                groups.push(at..at + 1);
                held = slot.len;
            }
        }
    }
    groups
}
