//! Tokenizes the documents that are kept into a training shard and a held-out shard.

use super::Error;
use super::chat::ChatTemplate;
use super::documents::{Body, Document, Scan, Tally};
use super::filters::DropReason;
use super::shard::{DocumentKind, Sequence, Shard, ShardWriter};
use super::tokenizer::{Encoder, Tokenizer};
use muster_host::compute::Compute;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What becomes of a sequence that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLong {
    /// Its end is cut off.
    Truncate,
    /// It is left out, and counted.
    Drop,
    /// It is an error.
    #[default]
    Error,
}

impl std::str::FromStr for TooLong {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "truncate" => Ok(Self::Truncate),
            "drop" => Ok(Self::Drop),
            "error" => Ok(Self::Error),
            other => Err(format!("`too_long` is `truncate`, `drop` or `error`, not {other:?}")),
        }
    }
}

/// How documents become sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackConfig {
    /// The form of conversations.
    pub template: ChatTemplate,
    /// Most tokens of a conversation or of an answer with its prompt; 0 for any number. Texts are cut into
    /// windows later, and may be longer.
    pub context: usize,
    /// What becomes of those that are longer.
    pub too_long: TooLong,
}

impl Default for PackConfig {
    fn default() -> Self {
        Self { template: ChatTemplate::Plain, context: 0, too_long: TooLong::default() }
    }
}

/// The two shards of one part of a split; either may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// To train on.
    pub train: Shard,
    /// To measure with.
    pub held_out: Shard,
    /// What did not become tokens, by reason.
    pub dropped: BTreeMap<DropReason, Tally>,
}

/// Cuts a split's kept documents into parts of about `bytes` bytes of text, at least one part: what is
/// packed, kept and resumed as one.
///
/// # Errors
/// When a position is not in the scan.
pub fn parts<'k>(scan: &Scan, keep: &'k [u32], bytes: u64) -> Result<Vec<&'k [u32]>, Error> {
    let (mut parts, mut start, mut held) = (Vec::new(), 0, 0);
    for (at, position) in keep.iter().enumerate() {
        held += document(scan, *position)?.entry.bytes;
        if held >= bytes {
            parts.push(&keep[start..=at]);
            (start, held) = (at + 1, 0);
        }
    }
    if start < keep.len() || parts.is_empty() {
        parts.push(&keep[start..]);
    }
    Ok(parts)
}

/// Packs the documents of `scan` at the positions `keep` (one of [`super::dedup::Selection::keep`], or a part
/// of it).
///
/// `part` names the files: `train-<part>.bin` and the like.
///
/// # Errors
/// When a position is not in the scan, the tokenizer refuses a text, or a sequence is too long and must not
/// be.
pub fn pack(
    scan: &Scan,
    keep: &[u32],
    part: &str,
    config: &PackConfig,
    tokenizer: &Tokenizer,
    compute: &Compute,
) -> Result<Packed, Error> {
    let documents: Vec<&Document> =
        keep.iter().map(|position| document(scan, *position)).collect::<Result<_, _>>()?;
    let mut train = ShardWriter::new(tokenizer, &format!("train-{part}"), false);
    let mut held_out = ShardWriter::new(tokenizer, &format!("held-out-{part}"), true);
    let mut dropped = BTreeMap::<DropReason, Tally>::new();
    // An encoder for each thread, so that it remembers its words; one more for a caller who is not of the
    // pool.
    let encoders: Vec<_> = (0..=compute.threads()).map(|_| Mutex::new(tokenizer.encoder())).collect();
    // A round at a time, so that few tokens wait as integers.
    for round in documents.chunks(DOCUMENTS_PER_ROUND) {
        let encode = |document: &&Document| {
            let encoder =
                &encoders[rayon::current_thread_index().map_or(0, |index| index + 1).min(encoders.len() - 1)];
            // What an encoder remembers stays true when a thread has panicked.
            let mut encoder = encoder.lock().unwrap_or_else(PoisonError::into_inner);
            encode(document, config, &mut encoder)
        };
        let encoded: Vec<_> = compute.run(|| round.par_iter().map(encode).collect());
        for (document, encoded) in round.iter().zip(encoded) {
            match encoded? {
                Encoded::Kept { kind, sequences, truncated } => {
                    let writer = if document.entry.held_out { &mut held_out } else { &mut train };
                    writer.push(&document.entry, kind, &sequences)?;
                    writer.count_truncated(truncated);
                }
                Encoded::Dropped(reason) => dropped.entry(reason).or_default().add(document.entry.bytes),
            }
        }
    }
    Ok(Packed { train: train.finish()?, held_out: held_out.finish()?, dropped })
}

/// Documents whose tokens exist as integers at the same time.
const DOCUMENTS_PER_ROUND: usize = 1024;

fn document(scan: &Scan, position: u32) -> Result<&Document, Error> {
    let document = scan.documents.get(position as usize);
    document.ok_or_else(|| Error::Parameters(format!("the scan has no document {position}")))
}

enum Encoded {
    Kept { kind: DocumentKind, sequences: Vec<Sequence>, truncated: u64 },
    Dropped(DropReason),
}

fn encode(document: &Document, config: &PackConfig, encoder: &mut Encoder<'_>) -> Result<Encoded, Error> {
    let (kind, mut sequences) = match &document.body {
        Body::Text(text) => {
            let mut tokens = Vec::with_capacity(text.len() / 2);
            encoder.encode(text, &mut tokens)?;
            tokens.push(encoder.tokenizer().eos());
            let sequences = vec![Sequence { tokens, learnt: Vec::new() }];
            return Ok(Encoded::Kept { kind: DocumentKind::Text, sequences, truncated: 0 });
        }
        Body::Chat(turns) => {
            (DocumentKind::Chat, vec![config.template.conversation(turns, encoder)?.sequence])
        }
        Body::Preference { prompt, chosen, rejected } => (
            DocumentKind::Preference,
            config.template.preference(prompt, [chosen, rejected], encoder)?.to_vec(),
        ),
    };
    let mut truncated = 0;
    for sequence in
        sequences.iter_mut().filter(|sequence| config.context > 0 && sequence.tokens.len() > config.context)
    {
        match config.too_long {
            TooLong::Truncate => {
                truncated += 1;
                sequence.tokens.truncate(config.context);
                sequence.learnt.truncate(config.context);
            }
            TooLong::Drop => return Ok(Encoded::Dropped(DropReason::TooLong)),
            TooLong::Error => {
                let (path, place, count) =
                    (&document.entry.path, document.entry.place, sequence.tokens.len());
                let why =
                    format!("{path}, {place:?}, has {count} tokens, and the context {}", config.context);
                return Err(Error::Parameters(format!("{why}; `too_long` may be `truncate` or `drop`")));
            }
        }
    }
    // The first token is never predicted.
    if sequences.iter().any(|sequence| !sequence.learnt.iter().skip(1).any(|learnt| *learnt)) {
        return Ok(Encoded::Dropped(DropReason::NothingToLearn));
    }
    Ok(Encoded::Kept { kind, sequences, truncated })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::Selection;
    use crate::documents::{Place, Turn};
    use crate::megatron::Files;
    use crate::tokenizer::TokenizerConfig;

    fn scan() -> Scan {
        let document = |i: usize| {
            let text: String = (0..30)
                .map(|line| format!("let value_{i} = number({line}); // caf\u{e9} {}\n", i * line))
                .collect();
            Document::new(format!("root/{i}.rs"), Place::Whole, Body::Text(text), i.is_multiple_of(5))
        };
        Scan { documents: (0..20).map(document).collect(), ..Scan::default() }
    }

    #[test]
    fn shards_hold_the_documents_whatever_the_threads() {
        let scan = scan();
        let keep: Vec<u32> = (0..20).filter(|i| i % 7 != 3).collect();
        let one = Compute::new(1).expect("starts");
        let selection = Selection { keep: vec![keep.clone()], ..Selection::default() };
        let config = TokenizerConfig { vocab_size: 320, ..TokenizerConfig::default() };
        let tokenizer =
            Tokenizer::train(&config, std::slice::from_ref(&scan), &selection, &one).expect("trains");
        let packed = pack(&scan, &keep, "0", &PackConfig::default(), &tokenizer, &one).expect("packs");
        assert_eq!(
            pack(&scan, &keep, "0", &PackConfig::default(), &tokenizer, &Compute::new(3).expect("starts"))
                .expect("packs"),
            packed
        );

        let mut seen = 0;
        for (shard, held_out) in [(&packed.train, false), (&packed.held_out, true)] {
            let shard = Shard::open(&shard.index_bytes(), shard.files().clone(), shard.mask_files().cloned())
                .expect("opens");
            let tokens: Vec<u32> = shard.tokens().collect();
            let mut bytes = 0;
            for span in &shard.index().documents {
                let (start, end) = (span.start as usize, (span.start + span.tokens) as usize);
                let document =
                    scan.documents.iter().find(|d| d.entry.hash == span.hash).expect("is in the scan");
                assert_eq!(tokenizer.decode(&tokens[start..end]).expect("decodes"), document.body.plain());
                assert_eq!((document.entry.held_out, &document.entry.path), (held_out, &span.path));
                assert_eq!(tokens[end - 1], tokenizer.eos());
                bytes += document.body.bytes();
                seen += 1;
            }
            assert_eq!(shard.index().text_bytes, bytes);
        }
        assert_eq!(seen, keep.len());
        let absent = pack(&scan, &[20], "0", &PackConfig::default(), &tokenizer, &one)
            .expect_err("has no such document");
        assert!(absent.to_string().contains("no document 20"), "{absent}");

        let index = String::from_utf8(packed.train.index_bytes()).expect("is text");
        let hash = packed.train.index().files.bin.hash.clone();
        let refused = |index: &str, break_it: fn(&mut Files)| {
            let mut files = packed.train.files().clone();
            break_it(&mut files);
            Shard::open(index.as_bytes(), files, None).expect_err("refused").to_string()
        };
        let corrupt = refused(&index, |files| files.bin[9] ^= 1);
        assert!(
            corrupt.contains("trust train-0.bin") && corrupt.contains(&hash) && corrupt.contains("hash to"),
            "{corrupt}"
        );
        type Break = fn(&mut Files);
        let table: [(String, Break, &str); 5] = [
            (index.clone(), |files| files.bin.truncate(2), "trust train-0.bin: its 2 bytes"),
            (index.clone(), |files| files.idx[60] ^= 1, "trust train-0.idx"),
            (index.replacen("\"start\":0", "\"start\":1", 1), |_| {}, "is not where its index says"),
            (
                index.replace("\"vocab_size\":320", "\"vocab_size\":300"),
                |_| {},
                "outside the vocabulary of 300",
            ),
            ("{}".to_owned(), |_| {}, "its index"),
        ];
        for (index, break_it, expected) in table {
            let message = refused(&index, break_it);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn an_empty_split_gives_empty_shards() {
        let compute = Compute::new(2).expect("starts");
        let scan = scan();
        let selection = Selection { keep: vec![(0..20).collect()], ..Selection::default() };
        let config = TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() };
        let tokenizer = Tokenizer::train(&config, &[scan], &selection, &compute).expect("trains");
        let packed =
            pack(&Scan::default(), &[], "0", &PackConfig::default(), &tokenizer, &compute).expect("packs");
        let shard =
            Shard::open(&packed.train.index_bytes(), packed.train.files().clone(), None).expect("opens");
        assert_eq!(shard.index().tokens, 0);
    }

    #[test]
    fn conversations_have_masks_and_what_is_too_long_is_accounted_for() {
        let compute = Compute::new(1).expect("starts");
        let turn = |role: &str, content: &str| Turn { role: role.to_owned(), content: content.to_owned() };
        let talk = |answer: &str| Body::Chat(vec![turn("user", "Why?"), turn("assistant", answer)]);
        let pair = Body::Preference {
            prompt: vec![turn("user", "Why?")],
            chosen: "So.".to_owned(),
            rejected: "No, never.".to_owned(),
        };
        let text = Body::Text("Why so? Why not? So. ".repeat(50));
        let bodies =
            [text, talk("So."), pair, talk(&"So. ".repeat(90)), Body::Chat(vec![turn("user", "Why?")])];
        let documents: Vec<_> = (0..)
            .zip(bodies)
            .map(|(row, body)| Document::new("x".to_owned(), Place::Row(row), body, false))
            .collect();
        let scan = Scan { documents, ..Scan::default() };
        let selection = Selection { keep: vec![vec![0]], ..Selection::default() };
        let special_tokens =
            ChatTemplate::Chatml.special_tokens().iter().map(|token| (*token).to_owned()).collect();
        let config = TokenizerConfig { vocab_size: 300, special_tokens, ..TokenizerConfig::default() };
        let tokenizer =
            Tokenizer::train(&config, std::slice::from_ref(&scan), &selection, &compute).expect("trains");
        let packed = |too_long| {
            let config = PackConfig { template: ChatTemplate::Chatml, context: 40, too_long };
            pack(&scan, &[0, 1, 2, 3, 4], "0", &config, &tokenizer, &compute)
        };
        let cut = packed(TooLong::Truncate).expect("packs");
        let index = cut.train.index();
        assert_eq!(
            index.documents.iter().map(|span| span.kind.sequences()).collect::<Vec<_>>(),
            [1, 1, 2, 1]
        );
        assert_eq!(
            (index.truncated, &cut.dropped),
            (1, &[(DropReason::NothingToLearn, Tally { documents: 1, bytes: 4 })].into())
        );
        assert_eq!((index.documents[0].learnt, index.documents[3].tokens), (index.documents[0].tokens, 40));
        let masks = cut.train.mask_files().expect("has masks");
        let again = Shard::open(&cut.train.index_bytes(), cut.train.files().clone(), Some(masks.clone()))
            .expect("opens");
        assert_eq!(again, cut.train);
        let learnt: Vec<bool> = again.learnt_from(0).expect("has masks").collect();
        assert_eq!(learnt.iter().filter(|learnt| **learnt).count() as u64, index.learnt);
        let mut broken = masks.clone();
        broken.bin[3] ^= 1;
        let message = Shard::open(&cut.train.index_bytes(), cut.train.files().clone(), Some(broken))
            .expect_err("refused")
            .to_string();
        assert!(message.contains("trust train-0-mask.bin"), "{message}");
        let missing = Shard::open(&cut.train.index_bytes(), cut.train.files().clone(), None)
            .expect_err("refused")
            .to_string();
        assert!(missing.contains("train-0-mask.bin is missing"), "{missing}");

        let dropped = packed(TooLong::Drop).expect("packs").dropped;
        assert_eq!(dropped.get(&DropReason::TooLong).map(|tally| tally.documents), Some(1));
        let refused = packed(TooLong::Error).expect_err("refused").to_string();
        assert!(refused.contains("x, Row(3), has") && refused.contains("the context 40"), "{refused}");
    }

    #[test]
    fn parts_are_all_of_a_split_in_order() {
        let scan = scan();
        let keep: Vec<u32> = (0..20).collect();
        let whole: u64 = scan.documents.iter().map(|document| document.entry.bytes).sum();
        for (bytes, expected) in [(1, 20), (whole / 4, 4), (whole, 1), (u64::MAX, 1)] {
            let parts = parts(&scan, &keep, bytes).expect("are in the scan");
            assert!(parts.len().abs_diff(expected) <= 1, "{}", parts.len());
            assert_eq!(parts.concat(), keep);
        }
        assert_eq!(parts(&scan, &[], 9).expect("is one"), [&[] as &[u32]]);
        assert!(parts(&scan, &[20], 9).is_err());
    }
}
