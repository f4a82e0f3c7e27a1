//! Locality-sensitive hashing: finds pairs of near duplicates in a share of all buckets.
//!
//! Documents whose signatures agree in all rows of a band share a bucket; documents in a bucket are compared
//! by whole signatures, and a pair counts if the share of equal numbers reaches the threshold. Banding alone
//! finds a pair of Jaccard index j with probability `1 - (1 - j^rows)^bands`: with 14 bands of 8 rows, 0.92
//! at j = 0.8 but also 0.053 at j = 0.5; the comparison removes nearly all of the latter and nearly none of
//! the former.
//!
//! The sketches are read twice, one at a time: first for the band hashes, of which this share keeps its own
//! at 16 bytes each, then for the signatures of documents that share a bucket. Documents with equal hashes
//! are not compared: [`super::components`] joins them.

use super::minhash::{MinHashConfig, agreement, is_empty};
use super::sketch::Sketch;
use crate::Error;
use crate::shingles::splitmix64;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One share of the buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Counted from 0.
    pub index: u32,
    /// The number of shares.
    pub of: u32,
}

/// The pairs found. Documents are numbered from 0 over all splits in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairs {
    /// The number of documents in all splits.
    pub documents: u64,
    /// Each pair once, the smaller number first, in order.
    pub pairs: Vec<(u32, u32)>,
    /// The number of comparisons.
    pub compared: u64,
}

/// In a larger bucket, each document is compared only with the first [`NEIGHBOURS`] and with the
/// [`NEIGHBOURS`] just before it: most documents of a bucket are alike, so these comparisons join them.
const BUCKET_MAX: usize = 64;
/// Comparisons at each end of a large bucket, per document.
const NEIGHBOURS: usize = 8;
/// The default share of a signature that must agree for two documents to be near duplicates, 0 to 1.
pub const THRESHOLD: f64 = 0.7;

/// A document that shares a bucket with another.
struct Member {
    hash: String,
    signature: Vec<u32>,
}

/// Finds the pairs in one share of the buckets. `read` returns the sketch of a split; it is called twice per
/// split.
///
/// # Errors
/// An error of `read`; [`Error::Parameters`] if the share or the threshold (0 to 1) is out of range, a sketch
/// has no signatures, or two sketches were made with different parameters.
pub fn pairs<E: From<Error>>(
    splits: usize,
    read: impl Fn(usize) -> Result<Sketch, E>,
    share: Share,
    threshold: f64,
) -> Result<Pairs, E> {
    if share.of == 0 || share.index >= share.of {
        return Err(Error::Parameters(format!(
            "there is no share {} of {}; shares are counted from 0",
            share.index, share.of
        ))
        .into());
    }
    if !(0.0..=1.0).contains(&threshold) {
        return Err(Error::Parameters(format!("a threshold of {threshold} is not from 0 to 1")).into());
    }
    let mut buckets: Vec<(u64, u32)> = Vec::new();
    let (mut documents, mut made) = (0u32, None);
    for split in 0..splits {
        let sketch = read(split)?;
        let minhash = same_parameters(&mut made, &sketch, split)?;
        for signature in sketch.signatures.chunks_exact(minhash.hashes().max(1)) {
            if !is_empty(signature) {
                let hashes =
                    signature.chunks_exact(minhash.rows).zip(0u64..).map(|(rows, band)| bucket(band, rows));
                buckets.extend(
                    hashes
                        .filter(|hash| hash % u64::from(share.of) == u64::from(share.index))
                        .map(|hash| (hash, documents)),
                );
            }
            documents = documents
                .checked_add(1)
                .ok_or_else(|| Error::Parameters(format!("there are more than {} documents", u32::MAX)))?;
        }
    }
    buckets.sort_unstable();
    let together = buckets.chunk_by(|one, other| one.0 == other.0).filter(|bucket| bucket.len() > 1);
    let mut wanted: Vec<u32> = together.clone().flatten().map(|(_, document)| *document).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let members = members(splits, &read, &wanted)?;

    let rows = made.as_ref().map_or(0, MinHashConfig::hashes);
    let least = (threshold * rows as f64).ceil() as usize;
    let mut found = Pairs { documents: u64::from(documents), ..Pairs::default() };
    for bucket in together {
        // Sort by content hash, so that the choice of comparisons does not depend on the splits.
        let mut bucket: Vec<(&Member, u32)> =
            bucket.iter().filter_map(|(_, document)| Some((members.get(document)?, *document))).collect();
        bucket.sort_by(|one, other| (&one.0.hash, one.1).cmp(&(&other.0.hash, other.1)));
        bucket.dedup_by(|one, other| one.0.hash == other.0.hash);
        for (position, (member, number)) in bucket.iter().enumerate() {
            let before = if bucket.len() <= BUCKET_MAX {
                (0..position, 0..0)
            } else {
                let near = position.saturating_sub(NEIGHBOURS);
                (0..NEIGHBOURS.min(near), near..position)
            };
            for (other, other_number) in before.0.chain(before.1).filter_map(|at| bucket.get(at)) {
                found.compared += 1;
                if agreement(&member.signature, &other.signature) >= least {
                    found.pairs.push(((*number).min(*other_number), (*number).max(*other_number)));
                }
            }
        }
    }
    found.pairs.sort_unstable();
    found.pairs.dedup();
    Ok(found)
}

/// The MinHash parameters of a sketch, which must equal those of the first.
fn same_parameters(
    made: &mut Option<MinHashConfig>,
    sketch: &Sketch,
    split: usize,
) -> Result<MinHashConfig, Error> {
    let Some(minhash) = &sketch.minhash else {
        return Err(Error::Parameters(format!(
            "the sketch of split {split} has no signatures: scan with MinHash signatures"
        )));
    };
    if made.get_or_insert_with(|| minhash.clone()) != minhash {
        return Err(Error::Parameters(format!(
            "the signatures of split {split} were made with other parameters than those of split 0"
        )));
    }
    Ok(minhash.clone())
}

/// Reads the signatures of the documents `wanted`, which ascend.
fn members<E>(
    splits: usize,
    read: impl Fn(usize) -> Result<Sketch, E>,
    wanted: &[u32],
) -> Result<BTreeMap<u32, Member>, E> {
    let mut members = BTreeMap::new();
    let mut wanted = wanted.iter().copied().peekable();
    let mut first = 0u32;
    for split in 0..splits {
        if wanted.peek().is_none() {
            break;
        }
        let sketch = read(split)?;
        let hashes = sketch.minhash.as_ref().map_or(0, MinHashConfig::hashes);
        let next = first.saturating_add(u32::try_from(sketch.entries.len()).unwrap_or(u32::MAX));
        while let Some(document) = wanted.next_if(|document| *document < next) {
            let at = (document - first) as usize;
            let signature = sketch.signatures.get(at * hashes..(at + 1) * hashes);
            if let (Some(entry), Some(signature)) = (sketch.entries.get(at), signature) {
                members.insert(document, Member { hash: entry.hash.clone(), signature: signature.to_vec() });
            }
        }
        first = next;
    }
    Ok(members)
}

/// The bucket of a band, a 64-bit hash of its number and its rows.
fn bucket(band: u64, rows: &[u32]) -> u64 {
    rows.iter().fold(splitmix64(band + 1), |hash, row| splitmix64(hash.rotate_left(5) ^ u64::from(*row)))
}
