//! Checkpoints as artifacts: each file under its hash, and the manifest, whose hash names the checkpoint.

use super::error::TrainError;
use super::records::{PendingRound, Round, StoredCheckpoint, round_record};
use crate::error::{Error, is_absent};
use crate::model::{checkpoint_file, checkpoint_file_hash};
use crate::place::ModelError;
use muster_attempt::artifacts::Artifacts;
use muster_llm::train::checkpoint::{self, CheckpointInfo};
use muster_llm::train::{CheckpointManifest, Retention, Snapshot};
use muster_protocol::ids::Digest;
use std::collections::BTreeSet;

/// A durable checkpoint, and what the log records of it.
#[derive(Debug)]
pub struct SavedCheckpoint {
    /// The round that ends with it.
    pub round: Round,
    /// The artifact with the round's whole account.
    pub account: Digest,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Checkpoints that are kept from then on.
    pub kept: Vec<StoredCheckpoint>,
    /// Checkpoints to remove.
    pub gone: Vec<StoredCheckpoint>,
}

/// Writes checkpoints, off the training thread.
pub struct CheckpointWriter {
    /// Where to.
    pub artifacts: Artifacts,
    /// The owner of the pins.
    pub owner: String,
    /// Which checkpoints are kept.
    pub retention: Retention,
    /// The attempt's epoch.
    pub formation: u32,
}

impl CheckpointWriter {
    /// Writes a snapshot, and what `pending` is committed with. Its artifacts are pinned, and so are those in
    /// `with`.
    pub fn save(
        &self,
        snapshot: Snapshot,
        mut pending: PendingRound,
        with: &[Digest],
    ) -> Result<SavedCheckpoint, Error> {
        let CheckpointWriter { artifacts, owner, .. } = self;
        let mut bytes = 0;
        let mut checkpoint = Digest::default();
        for hash in with {
            artifacts.pin(*hash, owner)?;
        }
        snapshot.write(|_, content| {
            checkpoint = Digest::of(content);
            let kept = artifacts.pin(checkpoint, owner).and_then(|()| artifacts.put(content));
            bytes += content.len() as u64;
            kept.map(drop).map_err(|e| e.to_string())
        })?;
        let about = CheckpointInfo { step: pending.step, loss: pending.loss };
        let mut all = std::mem::take(&mut pending.account.kept);
        all.retain(|one| one.about.step != pending.step);
        all.push(StoredCheckpoint { about, checkpoint });
        let wanted = self.retention.kept(&all.iter().map(|one| one.about).collect::<Vec<CheckpointInfo>>());
        let (kept, gone): (Vec<StoredCheckpoint>, Vec<StoredCheckpoint>) =
            all.into_iter().partition(|one| wanted.contains(&one.about.step));
        pending.account.kept.clone_from(&kept);
        pending.account.gone.clone_from(&gone);
        let round = round_record(&pending, self.formation, checkpoint, bytes)?;
        let account = serde_json::to_vec(&pending.account)
            .map_err(|source| TrainError::Encode { what: "a round's account", source })?;
        Ok(SavedCheckpoint { round, account: artifacts.put(&account)?, bytes, kept, gone })
    }
}

/// Removes the artifacts that the checkpoints `gone` need and those that `stay` do not. `with` gives more
/// artifacts of a checkpoint.
pub fn remove_checkpoints(
    artifacts: &Artifacts,
    owner: &str,
    gone: &[Digest],
    stay: &[Digest],
    with: impl Fn(&CheckpointManifest) -> Result<Vec<Digest>, Error>,
) -> Result<(), Error> {
    let files = |manifest: &CheckpointManifest| {
        manifest.files.iter().map(checkpoint_file_hash).collect::<Result<Vec<Digest>, ModelError>>()
    };
    let mut needed = BTreeSet::new();
    for checkpoint in stay {
        let manifest = manifest(artifacts, *checkpoint)?;
        needed.extend(with(&manifest)?);
        needed.extend(files(&manifest)?);
        needed.insert(*checkpoint);
    }
    for checkpoint in gone {
        // A manifest is removed after the files that it names, so that after a kill the next process still
        // finds what is left.
        let Some(manifest) = still_there(manifest(artifacts, *checkpoint))? else { continue };
        let more = still_there(with(&manifest))?.unwrap_or_default();
        for hash in more
            .into_iter()
            .chain(files(&manifest)?)
            .filter(|hash| !needed.contains(hash))
            .chain([*checkpoint])
        {
            artifacts.unpin(hash, owner)?;
        }
    }
    Ok(())
}

/// `None` if an earlier attempt has removed it.
fn still_there<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The files of a checkpoint, from the artifacts.
pub fn reader(artifacts: &Artifacts) -> impl Fn(&checkpoint::CheckpointFile) -> Result<Vec<u8>, String> + '_ {
    |file| checkpoint_file(artifacts, file)
}

/// The manifest of a checkpoint.
pub fn manifest(artifacts: &Artifacts, checkpoint: Digest) -> Result<CheckpointManifest, Error> {
    Ok(CheckpointManifest::from_bytes(&artifacts.get(checkpoint)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_llm::model::ModelConfig;
    use muster_llm::train::{TrainConfig, TrainState};

    /// A checkpoint of these files.
    fn checkpoint(artifacts: &Artifacts, step: u64, files: &[&str]) -> Digest {
        let file = |name: &&str| {
            let hash = artifacts.put(name.as_bytes()).unwrap();
            artifacts.pin(hash, "owner").unwrap();
            let hash = hash.to_string().trim_start_matches("blake3:").to_owned();
            checkpoint::CheckpointFile { name: (*name).to_owned(), bytes: name.len() as u64, hash }
        };
        let manifest = CheckpointManifest {
            version: 2,
            state: TrainState { step, ..TrainState::default() },
            loss: None,
            config: TrainConfig::default(),
            model: ModelConfig::default(),
            holds: checkpoint::CheckpointContents::Model,
            config_hash: String::new(),
            data_hash: String::new(),
            parent: None,
            instructions: String::new(),
            threads: 1,
            files: files.iter().map(file).collect(),
        };
        let hash = artifacts.put(&manifest.to_bytes().unwrap()).unwrap();
        artifacts.pin(hash, "owner").unwrap();
        hash
    }

    #[test]
    fn a_removal_that_was_killed_is_ended_by_the_next_life() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(dir.path()).unwrap();
        let there = |text: &str| artifacts.get(Digest::of(text.as_bytes())).is_ok();
        let states = |manifest: &CheckpointManifest| {
            Ok(manifest.files.iter().filter(|f| f.name == "named").map(|_| Digest::of(b"state")).collect())
        };
        for killed_after in 0..4 {
            let gone = checkpoint(&artifacts, 1, &["old", "shared", "named"]);
            let stay = checkpoint(&artifacts, 2, &["new", "shared"]);
            artifacts.put(b"state").unwrap();
            artifacts.pin(Digest::of(b"state"), "owner").unwrap();
            // Repeats the steps of an earlier attempt in their order.
            for text in ["state", "old", "named"].iter().take(killed_after) {
                artifacts.unpin(Digest::of(text.as_bytes()), "owner").unwrap();
            }
            for _ in 0..2 {
                remove_checkpoints(&artifacts, "owner", &[gone], &[stay], states).unwrap();
                assert!(
                    !there("old") && !there("named") && !there("state") && artifacts.get(gone).is_err(),
                    "{killed_after}"
                );
                assert!(there("new") && there("shared") && artifacts.get(stay).is_ok(), "{killed_after}");
            }
        }
    }
}
