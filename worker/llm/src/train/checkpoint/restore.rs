//! The numbers of a checkpoint, read back from its files.

use super::{
    CheckpointContents, CheckpointManifest, FIRST, MASTER, ReadFile, SECOND, TRAINED, optimizer_file,
};
use crate::autograd::Slot;
use crate::model::weights::from_safetensors;
use crate::model::{self, ModelConfig, Precision, hub};
use crate::train::Error;
use crate::train::adamw::Moments;
use safetensors::tensor::SafeTensors;
use std::cell::RefCell;

/// What a trainer resumes with.
pub struct RestoredState {
    /// The trained weights in f32, flat in order of name.
    pub weights: Vec<f32>,
    /// Their moments.
    pub moments: Moments,
}

fn damaged(e: &dyn std::fmt::Display) -> Error {
    Error::Checkpoint(e.to_string())
}

/// The model of a checkpoint that holds a whole one: its shape, and its weights flat in order of name.
///
/// # Errors
/// [`Error::Checkpoint`] when it holds trained weights only, or a file is absent or damaged.
pub fn model(manifest: &CheckpointManifest, read: ReadFile<'_>) -> Result<(ModelConfig, Vec<f32>), Error> {
    if manifest.holds == CheckpointContents::Trained {
        return Err(Error::Checkpoint(
            "it holds what was trained on a base, and the base is not in it".to_owned(),
        ));
    }
    // The error about a file is reported once, here: the layout's reader only has to stop.
    let mut unreadable = RefCell::new(None);
    let file = |name: &str| {
        manifest.file(name, read).map_err(|error| {
            let stopped =
                model::Error::File { what: "read", file: name.to_owned(), reason: error.to_string() };
            *unreadable.borrow_mut() = Some(error);
            stopped
        })
    };
    let loaded = hub::load(file);
    let (config, weights) = loaded.map_err(|e| unreadable.get_mut().take().unwrap_or_else(|| damaged(&e)))?;
    Ok((config, finite("the weights", weights)?))
}

fn finite(what: &str, numbers: Vec<f32>) -> Result<Vec<f32>, Error> {
    match numbers.iter().find(|x| !x.is_finite()) {
        Some(x) => Err(Error::Checkpoint(format!("{what} hold {x}"))),
        None => Ok(numbers),
    }
}

impl CheckpointManifest {
    /// The trained weights in f32 and their moments; `slots` are the run's.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming what is absent, misshapen or damaged.
    pub fn numbers(&self, slots: &[Slot], read: ReadFile<'_>) -> Result<RestoredState, Error> {
        let count = self.files.iter().filter(|file| file.name.starts_with("optimizer-")).count();
        let total = slots.last().map_or(0, |slot| slot.start + slot.len);
        let apart = self.config.precision == Precision::Bf16;
        let mut parts = [FIRST, SECOND, MASTER].map(|prefix| (prefix, Vec::new()));
        let mut next = 0;
        for at in 0..count {
            let name = optimizer_file(at, count);
            let bytes =
                self.file(&name, read)?.ok_or_else(|| Error::Checkpoint(format!("it has no file {name}")))?;
            let group = held(&bytes, &slots[next..])
                .map_err(|e| Error::Checkpoint(format!("its file {name}: {e}")))?;
            for (prefix, numbers) in parts.iter_mut().filter(|(prefix, _)| apart || *prefix != MASTER) {
                let found = from_safetensors(&slots[next..next + group], &bytes, prefix);
                numbers.extend(found.map_err(|e| Error::Checkpoint(format!("its file {name}: {e}")))?);
            }
            next += group;
        }
        if next < slots.len() {
            return Err(Error::Checkpoint(format!("no file has the moments of {}", slots[next].name)));
        }
        let [(_, first), (_, second), (_, masters)] = parts;
        let weights = match (apart, self.holds) {
            (true, _) => masters,
            (false, CheckpointContents::Model) => model(self, read)?.1,
            (false, CheckpointContents::Trained) => {
                let bytes = self
                    .file(TRAINED, read)?
                    .ok_or_else(|| Error::Checkpoint(format!("it has no file {TRAINED}")))?;
                from_safetensors(slots, &bytes, "").map_err(|e| damaged(&e))?
            }
        };
        if weights.len() != total {
            return Err(Error::Checkpoint(format!(
                "it holds {} weights where {total} are trained",
                weights.len()
            )));
        }
        let moments =
            Moments { first: finite("the moments", first)?, second: finite("the moments", second)? };
        Ok(RestoredState { weights: finite("the weights", weights)?, moments })
    }
}

/// How many of `slots`, from the first on, a file of the optimizer state has.
fn held(bytes: &[u8], slots: &[Slot]) -> Result<usize, safetensors::SafeTensorError> {
    let file = SafeTensors::deserialize(bytes)?;
    Ok(slots.iter().take_while(|slot| file.tensor(&format!("{FIRST}{}", slot.name)).is_ok()).count())
}
