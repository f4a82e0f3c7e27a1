//! The labels as artifacts: batches that name their parents, with the newest one's hash in the log.
//!
//! A batch takes its parent into itself while that holds no more than twice its labels, so that each batch
//! has more than twice the labels of the next: a restart reads few artifacts however many batches there were,
//! and each label is written a few times more. What was replaced stays in the chain.

use super::board::Label;
use crate::error::Error;
use muster_attempt::artifacts::Artifacts;
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};

/// Batches from the newest to the first at most: more can't come of so few labels.
const BATCHES_MAX: usize = 64;

/// An artifact with labels.
#[derive(Debug, Serialize, Deserialize)]
struct Batch {
    /// The batch before it, if there is one.
    parent: Option<Digest>,
    /// How many labels stand before it.
    before: u64,
    /// The labels, in the order in which they were taken.
    labels: Vec<Label>,
}

/// A chain of batches, from the first to the newest: their hashes and how many labels each holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    batches: Vec<(Digest, u64)>,
}

impl Chain {
    /// Reads the chain that ends with `head`, and all its labels in order.
    ///
    /// # Errors
    /// When a batch is absent, damaged, or does not fit the others.
    pub fn read(artifacts: &Artifacts, head: Digest) -> Result<(Chain, Vec<Label>), Error> {
        let (mut found, mut next) = (Vec::new(), Some(head));
        while let Some(hash) = next {
            let batch = batch(artifacts, hash)?;
            next = batch.parent;
            found.push((hash, batch));
            if found.len() > BATCHES_MAX {
                return Err(Error::Unfit(format!(
                    "read the labels: more than {BATCHES_MAX} batches lead up to {head}"
                )));
            }
        }
        let (mut chain, mut labels) = (Chain::default(), Vec::new());
        for (hash, batch) in found.into_iter().rev() {
            if batch.before != labels.len() as u64 {
                return Err(Error::Unfit(format!(
                    "read the labels: {hash} has {} before it, not {}",
                    batch.before,
                    labels.len()
                )));
            }
            chain.batches.push((hash, batch.labels.len() as u64));
            labels.extend(batch.labels);
        }
        Ok((chain, labels))
    }

    /// The chain with these labels at its end; they are durable when this returns. Its head is to be put into
    /// the log.
    ///
    /// # Errors
    /// When an artifact can't be read or written; this chain stands as it was.
    pub fn with(&self, artifacts: &Artifacts, new: &[Label]) -> Result<Chain, Error> {
        let mut batches = self.batches.clone();
        let mut labels = new.to_vec();
        while let Some((hash, _)) = batches.pop_if(|(_, held)| *held <= 2 * labels.len() as u64) {
            let mut merged = batch(artifacts, hash)?.labels;
            merged.append(&mut labels);
            labels = merged;
        }
        let parent = batches.last().map(|(hash, _)| *hash);
        let before = batches.iter().map(|(_, held)| held).sum();
        let held = labels.len() as u64;
        let bytes = serde_json::to_vec(&Batch { parent, before, labels })
            .map_err(|error| Error::Unfit(format!("write the labels: {error}")))?;
        batches.push((artifacts.put(&bytes)?, held));
        Ok(Chain { batches })
    }

    /// The newest batch.
    pub fn head(&self) -> Option<Digest> {
        self.batches.last().map(|(hash, _)| *hash)
    }
}

fn batch(artifacts: &Artifacts, hash: Digest) -> Result<Batch, Error> {
    let bytes = artifacts.get(hash)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::Unfit(format!("read the labels: artifact {hash}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(n: usize) -> Label {
        Label {
            item: n.to_string(),
            who: "ann".to_owned(),
            label: "x".to_owned(),
            confirmed: None,
            at_ms: n as u64,
        }
    }

    #[test]
    fn labels_come_back_in_order_from_few_batches() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(dir.path()).unwrap();
        let mut chain = Chain::default();
        let mut all = Vec::new();
        for size in [1, 1, 1, 7, 1, 2, 1, 30, 1, 1] {
            let new: Vec<Label> = (0..size).map(|n| label(all.len() + n)).collect();
            chain = chain.with(&artifacts, &new).unwrap();
            all.extend(new);
            let (read, labels) = Chain::read(&artifacts, chain.head().unwrap()).unwrap();
            assert_eq!((&read, &labels), (&chain, &all));
        }
        assert_eq!(chain.batches.iter().map(|(_, held)| *held).collect::<Vec<_>>(), [44, 2]);
        for n in 0..200 {
            chain = chain.with(&artifacts, &[label(n)]).unwrap();
        }
        assert!(chain.batches.len() <= 8, "{}", chain.batches.len());
    }

    #[test]
    fn a_batch_that_is_gone_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(dir.path()).unwrap();
        let first = Chain::default().with(&artifacts, &[label(0), label(1), label(2)]).unwrap();
        let second = first.with(&artifacts, &[label(3)]).unwrap();
        std::fs::remove_file(artifacts.path(first.head().unwrap())).unwrap();
        let message = Chain::read(&artifacts, second.head().unwrap()).unwrap_err().to_string();
        assert!(message.contains(&first.head().unwrap().to_string()), "{message}");
    }
}
