//! The files of a checkpoint that only `diloco` has.

use super::allocator::SampleAllocator;
use crate::error::Error;
use crate::model::checkpoint_file_hash;
use crate::train::error::TrainError;
use crate::train::records::Guard;
use muster_attempt::artifacts::Artifacts;
use muster_llm::train::CheckpointManifest;
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const STATE_FILE: &str = "diloco.json";
pub const MOMENTUM_FILE: &str = "outer-momentum.f32";

/// The file of a checkpoint that holds all but the weights and the moments of replica 0.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct DilocoState {
    #[serde(rename = "deal")]
    pub allocator: SampleAllocator,
    /// By replica: the artifact with its moments. A replica without a contribution has none.
    pub states: BTreeMap<u32, Digest>,
    /// The record to write about the replicas that its round has refused.
    #[serde(default)]
    pub refusal: Option<Guard>,
}

/// The artifacts that a DiLoCo checkpoint has besides its files: the replicas' moments.
pub fn state_files(artifacts: &Artifacts, manifest: &CheckpointManifest) -> Result<Vec<Digest>, Error> {
    let Some(file) = manifest.files.iter().find(|file| file.name == STATE_FILE) else {
        return Ok(Vec::new());
    };
    let bytes = artifacts.get(checkpoint_file_hash(file)?)?;
    let progress: DilocoState =
        serde_json::from_slice(&bytes).map_err(|source| TrainError::Decode { file: STATE_FILE, source })?;
    Ok(progress.states.into_values().collect())
}
