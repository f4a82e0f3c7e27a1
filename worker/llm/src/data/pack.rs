//! Tokenizes the documents that are kept into a training shard and a held-out shard.

use super::Error;
use super::documents::{Document, Scan};
use super::shard::{Shard, ShardWriter};
use super::tokenizer::Tokenizer;
use crate::compute::Compute;
use rayon::prelude::*;

/// The two shards of one split; either may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// To train on.
    pub train: Shard,
    /// To measure with.
    pub held_out: Shard,
}

/// Packs the documents of `scan` at the positions `keep` (one of [`super::dedup::Choice::keep`]).
///
/// # Errors
/// When a position is not in the scan, or the tokenizer refuses a text.
pub fn pack(scan: &Scan, keep: &[u32], tokenizer: &Tokenizer, compute: &Compute) -> Result<Packed, Error> {
    let mut documents = Vec::with_capacity(keep.len());
    for position in keep {
        let document = scan.documents.get(*position as usize);
        documents.push(document.ok_or_else(|| Error::Parameters(format!("the scan has no document {position}")))?);
    }
    let mut train = ShardWriter::new(tokenizer, false);
    let mut held_out = ShardWriter::new(tokenizer, true);
    // A part per thread, so that each remembers its words; a round at a time, so that few tokens wait as integers.
    let parts = compute.threads();
    for round in documents.chunks(DOCUMENTS_PER_ROUND) {
        let encode = |part: &[&Document]| -> Result<Vec<Vec<u32>>, Error> {
            let mut encoder = tokenizer.encoder();
            let encode = |document: &&Document| {
                let text = document.body.plain();
                let mut tokens = Vec::with_capacity(text.len() / 2);
                encoder.encode(&text, &mut tokens).map(|()| tokens)
            };
            part.iter().map(encode).collect()
        };
        let encoded: Vec<_> = compute.run(|| round.par_chunks(round.len().div_ceil(parts)).map(encode).collect());
        let mut documents = round.iter();
        for part in encoded {
            for (tokens, document) in part?.into_iter().zip(&mut documents) {
                let writer = if document.entry.held_out { &mut held_out } else { &mut train };
                writer.push(&document.entry, &tokens);
            }
        }
    }
    Ok(Packed { train: train.finish(), held_out: held_out.finish() })
}

/// Documents whose tokens exist as integers at the same time.
const DOCUMENTS_PER_ROUND: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dedup::Choice;
    use crate::data::documents::{Body, Place};
    use crate::data::tokenizer::TokenizerConfig;

    fn scan() -> Scan {
        let document = |i: usize| {
            let text: String = (0..30).map(|line| format!("let value_{i} = number({line}); // caf\u{e9} {}\n", i * line)).collect();
            Document::new(format!("root/{i}.rs"), Place::Whole, Body::Text(text), i.is_multiple_of(5))
        };
        Scan { documents: (0..20).map(document).collect(), ..Scan::default() }
    }

    #[test]
    fn shards_hold_the_documents_whatever_the_threads() {
        let scan = scan();
        let keep: Vec<u32> = (0..20).filter(|i| i % 7 != 3).collect();
        let one = Compute::new(1).expect("starts");
        let choice = Choice { keep: vec![keep.clone()], ..Choice::default() };
        let config = TokenizerConfig { vocab_size: 320, ..TokenizerConfig::default() };
        let tokenizer = Tokenizer::train(&config, std::slice::from_ref(&scan), &choice, &one).expect("trains");
        let packed = pack(&scan, &keep, &tokenizer, &one).expect("packs");
        assert_eq!(pack(&scan, &keep, &tokenizer, &Compute::new(3).expect("starts")).expect("packs"), packed);

        let mut seen = 0;
        for (shard, held_out) in [(&packed.train, false), (&packed.held_out, true)] {
            let shard = Shard::open(&shard.index_bytes(), shard.packed().to_vec()).expect("opens");
            let tokens: Vec<u32> = shard.tokens().collect();
            let mut bytes = 0;
            for span in &shard.index().documents {
                let (start, end) = (span.start as usize, (span.start + span.tokens) as usize);
                let document = scan.documents.iter().find(|d| d.entry.hash == span.hash).expect("is in the scan");
                assert_eq!(tokenizer.decode(&tokens[start..end]).expect("decodes"), document.body.plain());
                assert_eq!((document.entry.held_out, &document.entry.path), (held_out, &span.path));
                assert_eq!(tokens[end], tokenizer.boundary());
                bytes += document.body.bytes();
                seen += 1;
            }
            assert_eq!(shard.index().text_bytes, bytes);
        }
        assert_eq!(seen, keep.len());
        let absent = pack(&scan, &[20], &tokenizer, &one).expect_err("has no such document");
        assert!(absent.to_string().contains("no document 20"), "{absent}");

        let index = String::from_utf8(packed.train.index_bytes()).expect("is text");
        let bytes = packed.train.packed().to_vec();
        let mut flipped = bytes.clone();
        flipped[9] ^= 1;
        let table = [
            (index.clone(), flipped, "not those"),
            (index.clone(), bytes[2..].to_vec(), "bytes are no"),
            (index.replacen("\"start\":0", "\"start\":1", 1), bytes.clone(), "does not follow"),
            (index.replace("\"vocab_size\":320", "\"vocab_size\":300"), bytes.clone(), "outside the vocabulary"),
            ("{}".to_owned(), bytes, "its index"),
        ];
        for (index, packed, expected) in table {
            let message = Shard::open(index.as_bytes(), packed).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn an_empty_split_gives_empty_shards() {
        let compute = Compute::new(2).expect("starts");
        let scan = scan();
        let choice = Choice { keep: vec![(0..20).collect()], ..Choice::default() };
        let config = TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() };
        let tokenizer = Tokenizer::train(&config, &[scan], &choice, &compute).expect("trains");
        let packed = pack(&Scan::default(), &[], &tokenizer, &compute).expect("packs");
        let shard = Shard::open(&packed.train.index_bytes(), Vec::new()).expect("opens");
        assert_eq!(shard.index().tokens, 0);
    }
}
