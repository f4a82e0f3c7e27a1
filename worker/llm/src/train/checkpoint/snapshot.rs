//! A copy of a run's numbers, taken between two steps, that is written while the training goes on.
//!
//! Taking it costs one copy of the weights and two of their length; writing it, one file's bytes at a time
//! beside that. The numbers are given to the caller's `put` in files, the manifest last.

use super::{
    FILE_BYTES, FIRST, File, Holds, MANIFEST, MASTER, Manifest, SECOND, TRAINED, VERSION, optimizer_file,
};
use crate::autograd::Slot;
use crate::model::hub::{self, Named};
use crate::model::weights::to_safetensors;
use crate::model::{ModelConfig, Precision};
use crate::ops::simd::instructions;
use crate::train::adamw::Moments;
use crate::train::{Error, Trainer};
use candle_core::DType;
use muster_host::durable;
use std::ops::Range;
use std::sync::Arc;

/// All that a checkpoint holds.
pub struct Snapshot {
    manifest: Manifest,
    slots: Arc<[Slot]>,
    weights: Vec<f32>,
    moments: Moments,
    extra: Vec<(String, Vec<u8>)>,
}

impl Snapshot {
    pub(in crate::train) fn new(trainer: &Trainer, parent: Option<String>) -> Result<Self, Error> {
        let manifest = Manifest {
            version: VERSION,
            state: trainer.state().clone(),
            loss: trainer.last_loss(),
            config: trainer.config().clone(),
            model: trainer.model().config().clone(),
            holds: if trainer.trains_all() { Holds::Model } else { Holds::Trained },
            config_hash: trainer.config_hash(),
            data_hash: trainer.samples().about().hash.clone(),
            parent,
            instructions: instructions().to_owned(),
            threads: trainer.compute().threads(),
            files: Vec::new(),
        };
        Ok(Self {
            manifest,
            slots: Arc::clone(trainer.model().store().slots()),
            weights: trainer.weights()?,
            moments: trainer.moments()?,
            extra: Vec::new(),
        })
    }

    /// The step that it was taken at.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.manifest.state.step
    }

    /// What it will say of itself, without its files.
    #[must_use]
    pub fn about(&self) -> &Manifest {
        &self.manifest
    }

    /// The trained weights' names, shapes and places.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The trained weights, flat.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// With more files: an adapter in its own layout, a tokenizer.
    #[must_use]
    pub fn with(mut self, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        self.extra.extend(files);
        self
    }

    /// With another loss than that of the trainer's last step: the mean of several replicas, say.
    #[must_use]
    pub fn with_loss(mut self, loss: f64) -> Self {
        self.manifest.loss = Some(loss);
        self
    }

    /// Gives every file to `put`, the manifest last, and returns it with its bytes.
    ///
    /// # Errors
    /// [`Error::Keep`] naming the file that could not be made or kept, or that is there twice.
    pub fn write(
        mut self,
        mut put: impl FnMut(&str, &[u8]) -> Result<(), String>,
    ) -> Result<(Manifest, Vec<u8>), Error> {
        let mut files: Vec<File> = Vec::new();
        let mut keep = |name: String, bytes: &[u8]| {
            let failed = |reason: String| Error::Keep { file: name.clone(), reason };
            if name == MANIFEST || files.iter().any(|file| file.name == name) {
                return Err(failed("there are two of that name".to_owned()));
            }
            put(&name, bytes).map_err(failed)?;
            files.push(File { bytes: bytes.len() as u64, hash: durable::hash(bytes), name });
            Ok(())
        };
        match self.manifest.holds {
            Holds::Model => {
                for (name, bytes) in model_files(
                    &self.manifest.model,
                    &self.slots,
                    &self.weights,
                    self.manifest.config.precision,
                )? {
                    keep(name, &bytes)?;
                }
            }
            Holds::Trained => {
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
    let named = |slot: &Slot| Named {
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
