//! A shard: tokens in the layout of Megatron-LM, loss masks beside them, and an index in JSON that says where
//! each document is from.
//!
//! The index names every file with its length and hash, so a damaged file is refused and named. A document is
//! one sequence, with the boundary behind a plain text; a preference is two, the chosen answer before the
//! rejected one.

use super::Error;
use super::documents::{Entry, Place};
use super::megatron::{DType, Files, IndexedDataset, IndexedDatasetWriter};
use super::tokenizer::Tokenizer;
use muster_host::durable;
use serde::{Deserialize, Serialize};

const SHARD: &str = "the shard";

/// What a document was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// Plain text: every token is learnt from.
    #[default]
    Text,
    /// A conversation: the assistant's turns are learnt from.
    Chat,
    /// Two answers to one prompt: two sequences, chosen before rejected.
    Preference,
}

impl DocumentKind {
    /// How many sequences such a document is.
    #[must_use]
    pub fn sequences(self) -> usize {
        match self {
            Self::Text | Self::Chat => 1,
            Self::Preference => 2,
        }
    }
}

/// One document in a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The document's path.
    pub path: String,
    /// Where in that file.
    #[serde(default)]
    pub place: Place,
    /// Hash of its content.
    pub hash: String,
    /// What it was.
    #[serde(default)]
    pub kind: DocumentKind,
    /// Position of its first token.
    pub start: u64,
    /// Number of its tokens, with all that marks its turns and its end.
    pub tokens: u64,
    /// How many of them are learnt from.
    pub learnt: u64,
    /// Bytes of its text.
    pub bytes: u64,
}

/// A file of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub hash: String,
}

/// The two files of a dataset, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePair {
    /// The elements.
    pub bin: FileInfo,
    /// Where the sequences are.
    pub idx: FileInfo,
}

/// What a shard holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardIndex {
    /// What its files are called, without the endings.
    pub name: String,
    /// Whether its documents are kept from training.
    pub held_out: bool,
    /// Number of tokens in the vocabulary.
    pub vocab_size: u32,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// The token behind each plain text.
    pub boundary: u32,
    /// Number of tokens, boundaries included.
    pub tokens: u64,
    /// How many of them are learnt from.
    pub learnt: u64,
    /// Bytes of text.
    pub text_bytes: u64,
    /// Sequences that were cut to the context.
    #[serde(default)]
    pub truncated: u64,
    /// The tokens' files.
    pub files: FilePair,
    /// The masks' files, element by element of the tokens; none if every token is learnt from.
    #[serde(default)]
    pub mask_files: Option<FilePair>,
    /// The documents, in order.
    pub documents: Vec<Span>,
}

/// Tokens with their masks and index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    index: ShardIndex,
    tokens: IndexedDataset,
    mask: Option<IndexedDataset>,
}

impl Shard {
    /// Joins what was read from files, and checks them against each other.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names a file that is not the one of the index, with both hashes; [`Error::Damaged`]
    /// says what contradicts what.
    pub fn open(index: &[u8], tokens: Files, mask: Option<Files>) -> Result<Self, Error> {
        let index: ShardIndex =
            serde_json::from_slice(index).map_err(|e| damaged(format!("its index: {e}")))?;
        trusted(&index.files, &tokens)?;
        let named = index.files.idx.name.clone();
        let tokens = IndexedDataset::open(tokens).map_err(|reason| damaged(format!("{named}: {reason}")))?;
        let mask = match (&index.mask_files, mask) {
            (None, None) => None,
            (Some(pair), Some(files)) => {
                trusted(pair, &files)?;
                let mask = IndexedDataset::open(files)
                    .map_err(|reason| damaged(format!("{}: {reason}", pair.idx.name)))?;
                if mask.dtype() != DType::U8
                    || mask.starts() != tokens.starts()
                    || mask.documents() != tokens.documents()
                {
                    return Err(damaged(format!("{} is no mask of {named}", pair.idx.name)));
                }
                Some(mask)
            }
            (Some(pair), None) => return Err(damaged(format!("{} is missing", pair.bin.name))),
            (None, Some(_)) => return Err(damaged("it has a mask that its index does not name".to_owned())),
        };
        let shard = Self { index, tokens, mask };
        shard.check()?;
        Ok(shard)
    }

    fn check(&self) -> Result<(), Error> {
        let index = &self.index;
        if self.tokens.dtype() != DType::of_tokens(index.vocab_size) {
            return Err(damaged(format!(
                "tokens of {:?} for a vocabulary of {}",
                self.tokens.dtype(),
                index.vocab_size
            )));
        }
        if (self.tokens.elements(), self.tokens.documents().len())
            != (index.tokens, index.documents.len() + 1)
        {
            let found = (self.tokens.elements(), self.tokens.documents().len().saturating_sub(1));
            return Err(damaged(format!(
                "{found:?} tokens and documents, and its index names {:?}",
                (index.tokens, index.documents.len())
            )));
        }
        for (span, sequences) in index.documents.iter().zip(self.tokens.documents().windows(2)) {
            let [first, end] = [sequences[0], sequences[1]];
            let starts = self.tokens.starts();
            if end - first != span.kind.sequences()
                || (span.start, span.start.checked_add(span.tokens)) != (starts[first], Some(starts[end]))
            {
                return Err(damaged(format!("{} is not where its index says", span.path)));
            }
        }
        if let Some(token) = self.tokens().find(|token| *token >= index.vocab_size) {
            return Err(damaged(format!("token {token} is outside the vocabulary of {}", index.vocab_size)));
        }
        Ok(())
    }

    /// The tokens, in order.
    pub fn tokens(&self) -> impl Iterator<Item = u32> {
        self.tokens.from(0)
    }

    /// The tokens from a position on; none when it is past the end.
    pub fn tokens_from(&self, position: u64) -> impl Iterator<Item = u32> {
        self.tokens.from(position)
    }

    /// Whether each token from a position on is learnt from; `None` if every token is.
    pub fn learnt_from(&self, position: u64) -> Option<impl Iterator<Item = bool>> {
        self.mask.as_ref().map(|mask| mask.from(position).map(|element| element != 0))
    }

    /// Where each sequence begins, and the end of the last: one number more than sequences.
    #[must_use]
    pub fn starts(&self) -> &[u64] {
        self.tokens.starts()
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &ShardIndex {
        &self.index
    }

    /// The index as JSON.
    #[must_use]
    pub fn index_bytes(&self) -> Vec<u8> {
        self.index.to_bytes()
    }

    /// The files of the tokens.
    #[must_use]
    pub fn files(&self) -> &Files {
        self.tokens.files()
    }

    /// The files of the masks, if not every token is learnt from.
    #[must_use]
    pub fn mask_files(&self) -> Option<&Files> {
        self.mask.as_ref().map(IndexedDataset::files)
    }
}

impl ShardIndex {
    /// As JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON")
    }
}

fn damaged(reason: String) -> Error {
    Error::Damaged { what: SHARD, line: 0, reason }
}

/// Whether the files are those that the index names.
fn trusted(pair: &FilePair, files: &Files) -> Result<(), Error> {
    for (info, bytes) in [(&pair.bin, &files.bin), (&pair.idx, &files.idx)] {
        let found = durable::hash(bytes);
        if found != info.hash || bytes.len() as u64 != info.bytes {
            let (file, expected) = (info.name.clone(), info.hash.clone());
            return Err(Error::Corrupt {
                file,
                expected,
                found,
                bytes: bytes.len() as u64,
                bytes_expected: info.bytes,
            });
        }
    }
    Ok(())
}

/// A sequence of tokens, with a flag for each that is learnt from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Whether the loss counts the prediction of each; of the same length, or empty if it always does.
    pub learnt: Vec<bool>,
}

/// A shard being written.
pub struct ShardWriter {
    index: ShardIndex,
    tokens: IndexedDatasetWriter,
    /// Made with the first sequence that is not learnt from as a whole.
    mask: Option<IndexedDatasetWriter>,
}

impl ShardWriter {
    /// An empty shard for tokens of `tokenizer`, whose files will be called `name` with different endings.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, name: &str, held_out: bool) -> Self {
        Self::of(ShardIndex {
            name: name.to_owned(),
            held_out,
            vocab_size: tokenizer.vocab_size() as u32,
            tokenizer: tokenizer.hash().to_owned(),
            boundary: tokenizer.eos(),
            ..ShardIndex::default()
        })
    }

    /// An empty shard of which `index` says all but what is counted.
    #[must_use]
    pub fn of(index: ShardIndex) -> Self {
        Self { tokens: IndexedDatasetWriter::new(DType::of_tokens(index.vocab_size)), index, mask: None }
    }

    /// Appends a document: one sequence, or two of a preference. Those of a text have no flags, the others
    /// have one for each token.
    ///
    /// # Errors
    /// When a sequence is empty or too long for the layout, or its flags do not fit it.
    pub fn push(&mut self, entry: &Entry, kind: DocumentKind, sequences: &[Sequence]) -> Result<(), Error> {
        if sequences.len() != kind.sequences() {
            return Err(Error::Parameters(format!("{} sequences are no {kind:?}", sequences.len())));
        }
        let mut span = Span {
            path: entry.path.clone(),
            place: entry.place,
            hash: entry.hash.clone(),
            kind,
            start: self.index.tokens,
            tokens: 0,
            learnt: 0,
            bytes: entry.bytes,
        };
        for sequence in sequences {
            let (count, flags) = (sequence.tokens.len(), sequence.learnt.len());
            let flags_expected = if kind == DocumentKind::Text { 0 } else { count };
            if count == 0 || flags != flags_expected {
                return Err(Error::Parameters(format!(
                    "{count} tokens with {flags} flags are no sequence of a {kind:?}"
                )));
            }
            self.push_mask(sequence)?;
            self.tokens.push(&sequence.tokens)?;
            span.tokens += count as u64;
            span.learnt += if sequence.learnt.is_empty() {
                count
            } else {
                sequence.learnt.iter().filter(|learnt| **learnt).count()
            } as u64;
        }
        self.tokens.end_document();
        if let Some(mask) = &mut self.mask {
            mask.end_document();
        }
        self.index.tokens += span.tokens;
        self.index.learnt += span.learnt;
        self.index.text_bytes += span.bytes;
        self.index.documents.push(span);
        Ok(())
    }

    fn push_mask(&mut self, sequence: &Sequence) -> Result<(), Error> {
        if self.mask.is_none() && !sequence.learnt.is_empty() {
            let mut mask = IndexedDatasetWriter::new(DType::U8);
            // What came before was text: a sequence each, learnt from as a whole.
            for span in &self.index.documents {
                mask.push(&vec![1; span.tokens as usize])?;
                mask.end_document();
            }
            self.mask = Some(mask);
        }
        let Some(mask) = &mut self.mask else { return Ok(()) };
        if sequence.learnt.is_empty() {
            mask.push(&vec![1; sequence.tokens.len()])
        } else {
            mask.push(&sequence.learnt.iter().map(|learnt| u32::from(*learnt)).collect::<Vec<_>>())
        }
    }

    /// Counts sequences that were cut.
    pub fn count_truncated(&mut self, sequences: u64) {
        self.index.truncated += sequences;
    }

    /// The shard, with its hashes.
    ///
    /// # Errors
    /// [`Error::Damaged`] if what was pushed is no shard, such as a token outside the vocabulary.
    pub fn finish(mut self) -> Result<Shard, Error> {
        let open = |files| IndexedDataset::open(files).map_err(damaged);
        let tokens = open(self.tokens.finish())?;
        let mask = self.mask.map(|mask| open(mask.finish())).transpose()?;
        let name = &self.index.name;
        self.index.files = pair(name, tokens.files());
        self.index.mask_files = mask.as_ref().map(|mask| pair(&format!("{name}-mask"), mask.files()));
        let shard = Shard { index: self.index, tokens, mask };
        shard.check()?;
        Ok(shard)
    }
}

fn pair(name: &str, files: &Files) -> FilePair {
    let info = |ending: &str, bytes: &[u8]| FileInfo {
        name: format!("{name}.{ending}"),
        bytes: bytes.len() as u64,
        hash: durable::hash(bytes),
    };
    FilePair { bin: info("bin", &files.bin), idx: info("idx", &files.idx) }
}
