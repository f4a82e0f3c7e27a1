//! Checkpoints as artifacts: each file under its hash, and the manifest, whose hash names the checkpoint.

use super::records::{Pending, Round, Stored};
use crate::{
    artifacts::Artifacts,
    executors::{error::Error, model::checkpoint_file},
};
use muster_llm::train::{
    Manifest, Retention, Snapshot,
    checkpoint::{self, Kept},
};
use muster_protocol::ids::Digest;
use std::collections::BTreeSet;

/// A checkpoint that is durable, and all that the log is to be told of it.
#[derive(Debug)]
pub struct Saved {
    /// The round that ends with it.
    pub round: Round,
    /// The artifact with the round's whole account.
    pub account: Digest,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Checkpoints that are kept from then on.
    pub kept: Vec<Stored>,
    /// Those that are not.
    pub gone: Vec<Stored>,
}

/// Who writes checkpoints, off the training thread.
pub struct Saver {
    /// Where to.
    pub artifacts: Artifacts,
    /// For whom they are pinned.
    pub owner: String,
    /// Which are kept.
    pub retention: Retention,
    /// Which life of the gang this is.
    pub formation: u32,
}

impl Saver {
    /// Writes a snapshot, and what `pending` is committed with. Its artifacts are pinned, and so are those in `with`.
    pub fn save(&self, snapshot: Snapshot, mut pending: Pending, with: &[Digest]) -> Result<Saved, Error> {
        let Saver { artifacts, owner, .. } = self;
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
        let about = Kept { step: pending.step, loss: pending.loss };
        let mut all = std::mem::take(&mut pending.account.kept);
        all.retain(|one| one.about.step != pending.step);
        all.push(Stored { about, checkpoint });
        let wanted = self.retention.kept(&all.iter().map(|one| one.about).collect::<Vec<Kept>>());
        let (kept, gone): (Vec<Stored>, Vec<Stored>) = all.into_iter().partition(|one| wanted.contains(&one.about.step));
        pending.account.kept.clone_from(&kept);
        let round = Round::of(&pending, self.formation, checkpoint, bytes)?;
        let account = serde_json::to_vec(&pending.account).map_err(|e| Error::Unfit(format!("write a round's account as JSON: {e}")))?;
        Ok(Saved { round, account: artifacts.put(&account)?, bytes, kept, gone })
    }
}

/// Takes away what only `gone` needed, of those checkpoints and the ones that `stay`. `with` gives more artifacts of a checkpoint.
pub fn remove(
    artifacts: &Artifacts,
    owner: &str,
    gone: &[Digest],
    stay: &[Digest],
    with: impl Fn(&Manifest) -> Result<Vec<Digest>, Error>,
) -> Result<(), Error> {
    let of = |checkpoints: &[Digest]| {
        let mut all = BTreeSet::new();
        for checkpoint in checkpoints {
            let manifest = manifest(artifacts, *checkpoint)?;
            all.extend(with(&manifest)?);
            all.extend(manifest.files.iter().filter_map(|file| format!("blake3:{}", file.hash).parse::<Digest>().ok()));
            all.insert(*checkpoint);
        }
        Ok::<_, Error>(all)
    };
    let needed = of(stay)?;
    for checkpoint in gone {
        // The manifest goes last: what it names can be found until all of it is gone.
        let files: Vec<Digest> = of(&[*checkpoint])?.into_iter().filter(|hash| hash != checkpoint && !needed.contains(hash)).collect();
        for hash in files.into_iter().chain([*checkpoint]) {
            artifacts.unpin(hash, owner)?;
        }
    }
    Ok(())
}

/// The files of a checkpoint, from the artifacts.
pub fn reader(artifacts: &Artifacts) -> impl Fn(&checkpoint::File) -> Result<Vec<u8>, String> + '_ {
    |file| checkpoint_file(artifacts, file)
}

/// The manifest of a checkpoint.
pub fn manifest(artifacts: &Artifacts, checkpoint: Digest) -> Result<Manifest, Error> {
    Ok(Manifest::from_bytes(&artifacts.get(checkpoint)?)?)
}
