//! A sketch of a split: the entry and MinHash signature of each document, without its text.

use super::minhash::{MinHashConfig, MinHasher};
use crate::Error;
use crate::documents::{Entry, Scan};
use muster_host::compute::Compute;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

const SKETCH: &str = "the sketch";

/// The sketch of one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    /// The parameters of the signatures; `None` without signatures, when only equal documents are found.
    pub minhash: Option<MinHashConfig>,
    /// The documents, in the order of their scan.
    pub entries: Vec<Entry>,
    /// Their signatures, concatenated: [`MinHashConfig::hashes`] numbers for each document.
    pub signatures: Vec<u32>,
}

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    minhash: Option<MinHashConfig>,
    documents: usize,
}

/// Documents that one thread signs at a time.
const DOCUMENTS_PER_PART: usize = 64;

impl Sketch {
    /// Makes the sketch of a scan.
    ///
    /// # Errors
    /// [`Error::Parameters`] if a MinHash parameter is out of range.
    pub fn of(scan: &Scan, minhash: Option<&MinHashConfig>, compute: &Compute) -> Result<Self, Error> {
        let signer = minhash.map(MinHasher::new).transpose()?;
        let mut signatures = Vec::new();
        if let Some(signer) = &signer {
            let sign = |part: &[crate::documents::Document]| {
                let mut signatures = Vec::new();
                part.iter().for_each(|document| signer.sign(&document.body.plain(), &mut signatures));
                signatures
            };
            let parts: Vec<_> =
                compute.run(|| scan.documents.par_chunks(DOCUMENTS_PER_PART).map(sign).collect());
            signatures = parts.concat();
        }
        Ok(Self { minhash: minhash.cloned(), entries: scan.entries(), signatures })
    }

    /// Writes a header line of JSON, a line of JSON for each entry, and the signatures as little-endian u32.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a value can't be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let refuse = |line: usize| {
            move |e: serde_json::Error| Error::Damaged { what: SKETCH, line, reason: e.to_string() }
        };
        let head = Head { minhash: self.minhash.clone(), documents: self.entries.len() };
        let mut bytes = serde_json::to_vec(&head).map_err(refuse(1))?;
        bytes.push(b'\n');
        for (position, entry) in self.entries.iter().enumerate() {
            serde_json::to_writer(&mut bytes, entry).map_err(refuse(position + 2))?;
            bytes.push(b'\n');
        }
        bytes.extend(self.signatures.iter().flat_map(|number| number.to_le_bytes()));
        Ok(bytes)
    }

    /// Reads what [`Sketch::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the line.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |line: usize, reason: String| Error::Damaged { what: SKETCH, line, reason };
        let mut rest = bytes;
        let mut line = |number: usize| {
            let at = rest
                .iter()
                .position(|byte| *byte == b'\n')
                .ok_or_else(|| damaged(number, "it is truncated".to_owned()))?;
            let (line, others) = rest.split_at(at);
            rest = &others[1..];
            Ok(line)
        };
        let head: Head = serde_json::from_slice(line(1)?).map_err(|e| damaged(1, e.to_string()))?;
        let mut entries = Vec::new();
        for number in 2..head.documents.saturating_add(2) {
            entries.push(serde_json::from_slice(line(number)?).map_err(|e| damaged(number, e.to_string()))?);
        }
        let hashes = head.minhash.as_ref().map_or(0, |minhash| minhash.bands.saturating_mul(minhash.rows));
        if Some(rest.len()) != hashes.checked_mul(entries.len()).and_then(|count| count.checked_mul(4)) {
            return Err(damaged(
                0,
                format!("{} bytes are no {} signatures of {hashes} numbers", rest.len(), entries.len()),
            ));
        }
        let signatures = rest
            .chunks_exact(4)
            .map(|number| u32::from_le_bytes([number[0], number[1], number[2], number[3]]))
            .collect();
        Ok(Self { minhash: head.minhash, entries, signatures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{Body, Document, Place};

    #[test]
    fn a_sketch_comes_back_and_damage_is_named() {
        let document = |number: u64| {
            let text = format!("the text of document {number} is like that of no other document")
                .repeat(number as usize);
            Document::new(format!("root/{number}"), Place::Row(number), Body::Text(text), false)
        };
        let scan = Scan { documents: (0..150).map(document).collect(), ..Scan::default() };
        let minhash = MinHashConfig { bands: 3, rows: 2, ..MinHashConfig::default() };
        let compute = |threads| Compute::new(threads).expect("starts");
        let sketch = Sketch::of(&scan, Some(&minhash), &compute(1)).expect("is made");
        assert_eq!(Sketch::of(&scan, Some(&minhash), &compute(3)).expect("is made"), sketch);
        let bytes = sketch.to_bytes().expect("writes");
        assert_eq!(Sketch::from_bytes(&bytes).expect("reads"), sketch);
        let bare = Sketch::of(&scan, None, &compute(1)).expect("is made");
        assert_eq!(Sketch::from_bytes(&bare.to_bytes().expect("writes")).expect("reads"), bare);

        let table = [
            (bytes[..bytes.len() - 1].to_vec(), "3599 bytes are no 150 signatures of 6 numbers"),
            (bytes[..40].to_vec(), "line 1: it is truncated"),
            (b"{}\n".to_vec(), "line 1: missing field"),
            (b"{\"minhash\":null,\"documents\":2}\n{}\n".to_vec(), "line 2: missing field"),
            (b"{\"minhash\":null,\"documents\":99999999999}\n".to_vec(), "line 2: it is truncated"),
        ];
        for (damaged, expected) in table {
            let message = Sketch::from_bytes(&damaged).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
