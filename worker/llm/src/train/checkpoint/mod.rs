//! A run's whole state as named files and a manifest that lists them with their hashes.
//!
//! | file | holds |
//! |---|---|
//! | `config.json`, `model*.safetensors` | the whole model (Hugging Face), if every weight is trained |
//! | `trained.safetensors` | otherwise: the trained weights in f32, by name |
//! | `optimizer-*.safetensors` | moments of every trained weight; f32 masters of a bf16 model |
//! | what the caller adds | an adapter in the PEFT layout, a tokenizer |
//! | [`MANIFEST`] | step, cursor, parameters, hashes; written last: what it does not name does not exist |
//!
//! Writing needs only a place for named bytes; reading checks every hash. The numbers are a pure function of
//! what the manifest says, on any number of workers, as long as the instruction set and the number of threads
//! are the same: both are recorded.

mod manifest;
mod restore;
mod retention;
mod snapshot;

pub use manifest::{CheckpointContents, CheckpointFile, CheckpointManifest, ReadFile, VERSION};
pub use restore::{RestoredState, model};
pub use retention::{CheckpointInfo, Retention};
pub use snapshot::Snapshot;

/// The manifest's name among the files.
pub const MANIFEST: &str = "checkpoint.json";
/// The trained weights' file, if they are not the whole model.
const TRAINED: &str = "trained.safetensors";
/// Before the names of first moments, second moments and masters.
const FIRST: &str = "adamw.first.";
const SECOND: &str = "adamw.second.";
const MASTER: &str = "master.";

/// About the length of a file, at most, unless a single weight is longer: a file's bytes exist twice in
/// memory while it is written.
pub const FILE_BYTES: usize = 256 << 20;

/// The name of one of `count` files of the optimizer's state.
fn optimizer_file(at: usize, count: usize) -> String {
    format!("optimizer-{:05}-of-{count:05}.safetensors", at + 1)
}
