//! Checkpoints as artifacts: each file under its hash, and the manifest, whose hash names the checkpoint.

use super::records::Pending;
use crate::{
    artifacts::Artifacts,
    executors::{error::Error, model::checkpoint_file},
};
use muster_llm::train::{Manifest, Snapshot, checkpoint};
use muster_protocol::ids::Digest;
use std::collections::BTreeSet;

/// A checkpoint that is durable.
#[derive(Debug)]
pub struct Saved {
    /// Its manifest.
    pub checkpoint: Digest,
    /// Bytes of all its files.
    pub bytes: u64,
    /// The round that is committed with it.
    pub pending: Pending,
}

/// Writes a snapshot, and makes it what `pending` is committed with. Its artifacts are pinned for `owner`, and so are those in `with`. Runs
/// off the training thread.
pub fn save(snapshot: Snapshot, pending: Pending, artifacts: &Artifacts, owner: &str, with: &[Digest]) -> Result<Saved, Error> {
    let mut bytes = 0;
    let mut last = Digest::default();
    for hash in with {
        artifacts.pin(*hash, owner)?;
    }
    snapshot.write(|_, content| {
        last = Digest::of(content);
        let kept = artifacts.pin(last, owner).and_then(|()| artifacts.put(content));
        bytes += content.len() as u64;
        kept.map(drop).map_err(|e| e.to_string())
    })?;
    Ok(Saved { checkpoint: last, bytes, pending })
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
