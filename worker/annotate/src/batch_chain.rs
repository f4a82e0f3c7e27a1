//! The labels as artifacts: batches that name their parents; the log has the hash of the newest.
//!
//! A batch is merged with its parent while that has at most twice its labels, so that each batch has more
//! than twice the labels of the next, as in a log-structured merge tree: a restart reads few artifacts, at
//! the cost of writing each label a few times. Replaced labels stay in the chain.

use super::error::Error;
use super::label_store::Label;
use muster_attempt::artifacts::Artifacts;
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};

/// Most batches of a chain: since their sizes double, more would need more than 2^64 labels.
const BATCHES_MAX: usize = 64;

/// An artifact with labels, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct LabelBatch {
    /// The batch before it; `None` in the first.
    parent: Option<Digest>,
    /// The number of labels in the batches before it.
    before: u64,
    /// The labels, in the order in which they were accepted.
    labels: Vec<Label>,
}

/// A chain of batches, from the first to the newest: their hashes and how many labels each holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchChain {
    batches: Vec<(Digest, u64)>,
}

impl BatchChain {
    /// Reads the chain that ends with `head`, and all its labels in order.
    pub fn read(artifacts: &Artifacts, head: Digest) -> Result<(BatchChain, Vec<Label>), Error> {
        let (mut found, mut next) = (Vec::new(), Some(head));
        while let Some(hash) = next {
            let batch = batch(artifacts, hash)?;
            next = batch.parent;
            found.push((hash, batch));
            if found.len() > BATCHES_MAX {
                return Err(Error::LongChain { head, limit: BATCHES_MAX });
            }
        }
        let (mut chain, mut labels) = (BatchChain::default(), Vec::new());
        for (hash, batch) in found.into_iter().rev() {
            if batch.before != labels.len() as u64 {
                return Err(Error::BrokenChain { hash, found: batch.before, expected: labels.len() as u64 });
            }
            chain.batches.push((hash, batch.labels.len() as u64));
            labels.extend(batch.labels);
        }
        Ok((chain, labels))
    }

    /// The chain with these labels at its end, which are durable when this returns. The caller records its
    /// head in the log. On an error this chain is unchanged.
    pub fn with(&self, artifacts: &Artifacts, new: &[Label]) -> Result<BatchChain, Error> {
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
        let bytes = serde_json::to_vec(&LabelBatch { parent, before, labels })
            .map_err(|source| Error::Encode { values: "labels", source })?;
        batches.push((artifacts.put(&bytes)?, held));
        Ok(BatchChain { batches })
    }

    /// The newest batch.
    pub fn head(&self) -> Option<Digest> {
        self.batches.last().map(|(hash, _)| *hash)
    }
}

fn batch(artifacts: &Artifacts, hash: Digest) -> Result<LabelBatch, Error> {
    let bytes = artifacts.get(hash)?;
    serde_json::from_slice(&bytes)
        .map_err(|source| Error::Decode { values: format!("labels, artifact {hash},"), source })
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
        let mut chain = BatchChain::default();
        let mut all = Vec::new();
        for size in [1, 1, 1, 7, 1, 2, 1, 30, 1, 1] {
            let new: Vec<Label> = (0..size).map(|n| label(all.len() + n)).collect();
            chain = chain.with(&artifacts, &new).unwrap();
            all.extend(new);
            let (read, labels) = BatchChain::read(&artifacts, chain.head().unwrap()).unwrap();
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
        let first = BatchChain::default().with(&artifacts, &[label(0), label(1), label(2)]).unwrap();
        let second = first.with(&artifacts, &[label(3)]).unwrap();
        std::fs::remove_file(artifacts.path(first.head().unwrap())).unwrap();
        let message = BatchChain::read(&artifacts, second.head().unwrap()).unwrap_err().to_string();
        assert!(message.contains(&first.head().unwrap().to_string()), "{message}");
    }
}
