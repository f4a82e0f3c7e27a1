//! Files of several formats as a stream of records, each file in parts that different machines can read.
//!
//! Formats: text (a file, a line or a paragraph is a document), JSON lines and Parquet; text and JSON lines
//! also as `.gz` and `.zst`. A file of lines is cut into blocks of bytes, and a record belongs to the block
//! in which its first byte lies; a Parquet file is cut into its row groups; a compressed file is one part,
//! since it can't be entered in the middle. All parts together give each record once.
//!
//! Reading is one thread's work and gives bytes; [`Raw::body`] makes a document of them, and may run on many
//! threads. It never holds more of a file than one record, whose length is bounded.

mod compressed;
mod fields;
mod lines;
mod parquet;
#[cfg(test)]
mod tests;
mod whole;

pub use fields::Fields;

use super::Error;
use super::documents::{Body, Place};
use super::filters::DropReason;
use serde::{Deserialize, Serialize};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// A longer record is dropped as too large, without being held in memory.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// Bytes read at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// How the records of a file are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// By its ending: `.jsonl` and `.ndjson` are JSON lines, `.parquet` is Parquet, all else is text, a
    /// document each.
    #[default]
    Auto,
    /// The file is one document.
    Text,
    /// Each line that isn't blank is a document.
    Lines,
    /// Documents stand between blank lines.
    Paragraphs,
    /// Each line is a JSON object.
    Jsonl,
    /// A table; each row is a document.
    Parquet,
}

impl Format {
    /// Every name, in order.
    pub const NAMES: [(&'static str, Format); 6] = [
        ("auto", Format::Auto),
        ("text", Format::Text),
        ("lines", Format::Lines),
        ("paragraphs", Format::Paragraphs),
        ("jsonl", Format::Jsonl),
        ("parquet", Format::Parquet),
    ];

    /// The format of that name.
    ///
    /// # Errors
    /// [`Error::Parameters`] with the names that there are.
    pub fn named(name: &str) -> Result<Self, Error> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        let known = || Self::NAMES.map(|(name, _)| name).join(", ");
        found
            .map(|(_, format)| *format)
            .ok_or_else(|| Error::Parameters(format!("there is no format {name:?}; there are {}", known())))
    }

    /// The format of a file of that name (without the ending of a compression), never [`Format::Auto`].
    fn of(self, name: &str) -> Self {
        match self {
            Format::Auto => match name.rsplit_once('.').map(|(_, ending)| ending) {
                Some("jsonl" | "ndjson") => Format::Jsonl,
                Some("parquet") => Format::Parquet,
                Some(_) | None => Format::Text,
            },
            Format::Text | Format::Lines | Format::Paragraphs | Format::Jsonl | Format::Parquet => self,
        }
    }
}

/// What a file is packed with, by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// `name` without the ending of a compression, and which that is.
fn unpacked(name: &str) -> (&str, Compression) {
    if let Some(bare) = name.strip_suffix(".gz") {
        (bare, Compression::Gzip)
    } else if let Some(bare) = name.strip_suffix(".zst") {
        (bare, Compression::Zstd)
    } else {
        (name, Compression::None)
    }
}

/// The ending of a file's name that says what is in it: `jsonl` of `a.jsonl` and of `a.jsonl.gz`.
#[must_use]
pub fn ending(name: &str) -> Option<&str> {
    unpacked(name).0.rsplit_once('.').map(|(_, ending)| ending)
}

/// Which part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of it.
    All,
    /// The records whose first byte lies from `start` to before `end`.
    Block {
        /// The first byte.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// The rows of one row group.
    RowGroup(usize),
}

/// A part of a file that is read at once, by one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The file.
    pub path: PathBuf,
    /// Its length when it was listed.
    pub file_bytes: u64,
    /// What it holds; never [`Format::Auto`].
    pub format: Format,
    /// Which part.
    pub cut: Cut,
    /// Bytes of the part, as they lie on the disk.
    pub bytes: u64,
}

/// One record as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where in its file.
    pub place: Place,
    /// Its bytes there.
    pub bytes: u64,
    /// Its line, counted from 1, or its row, counted from 0. `None`: the block begins somewhere in the file,
    /// and this is for [`line_of`].
    pub line: Option<u64>,
    /// Its content.
    pub raw: Raw,
}

/// A record's content, before anything has looked at it.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// Bytes that should be text.
    Text(Vec<u8>),
    /// Bytes that should be a JSON object.
    Json(Vec<u8>),
    /// What a row gave.
    Row(Result<Body, String>),
    /// It is too long to hold.
    TooLarge,
}

impl Raw {
    /// The document, or why there is none, with what is wrong if the record is malformed.
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn body(self, fields: &Fields) -> Result<Body, (DropReason, String)> {
        let malformed = |reason: String| (DropReason::Malformed, reason);
        match self {
            Raw::Text(bytes) => {
                String::from_utf8(bytes).map(Body::Text).map_err(|_| (DropReason::NotUtf8, String::new()))
            }
            Raw::Json(bytes) => {
                let text = std::str::from_utf8(&bytes)
                    .map_err(|e| malformed(format!("byte {} is no UTF-8", e.valid_up_to())))?;
                fields.of_json(text.trim_start_matches('\u{feff}')).map_err(malformed)
            }
            Raw::Row(row) => row.map_err(malformed),
            Raw::TooLarge => Err((DropReason::TooLarge, String::new())),
        }
    }
}

/// What takes the records; `Break` ends the reading.
pub type Take<'a> = dyn FnMut(Record) -> Result<ControlFlow<()>, Error> + 'a;

/// The parts of a file of `file_bytes` bytes, in order. Blocks are of `block_bytes`.
///
/// # Errors
/// When a Parquet file can't be opened, or this build reads none.
pub fn parts(path: &Path, file_bytes: u64, format: Format, block_bytes: u64) -> Result<Vec<Part>, Error> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (bare, compression) = unpacked(&name);
    let format = format.of(bare);
    let part = |cut, bytes| Part { path: path.to_owned(), file_bytes, format, cut, bytes };
    Ok(match (format, compression) {
        (Format::Parquet, Compression::Gzip | Compression::Zstd) => {
            return Err(malformed_file(
                path,
                "a Parquet file packed once more can't be read: unpack it, its pages are packed already",
            ));
        }
        (Format::Parquet, Compression::None) => row_groups(path)?
            .into_iter()
            .enumerate()
            .map(|(group, bytes)| part(Cut::RowGroup(group), bytes))
            .collect(),
        (Format::Lines | Format::Paragraphs | Format::Jsonl, Compression::None)
            if file_bytes > block_bytes.max(1) =>
        {
            let blocks = (0..file_bytes).step_by(usize::try_from(block_bytes.max(1)).unwrap_or(usize::MAX));
            let block = |start: u64| (start, start.saturating_add(block_bytes.max(1)).min(file_bytes));
            blocks.map(block).map(|(start, end)| part(Cut::Block { start, end }, end - start)).collect()
        }
        (Format::Auto | Format::Text | Format::Lines | Format::Paragraphs | Format::Jsonl, _) => {
            vec![part(Cut::All, file_bytes)]
        }
    })
}

/// Gives the records of a part, in order. `text_bytes_max`: a file that is one document and longer than that
/// is not held in memory.
///
/// # Errors
/// When the file can't be read, is shorter or longer than when it was listed, or what it is packed with is
/// damaged; with its path.
pub fn read(part: &Part, fields: &Fields, text_bytes_max: u64, take: &mut Take) -> Result<(), Error> {
    let failed = |source| Error::Read { path: part.path.clone(), source };
    if part.format == Format::Parquet {
        return rows(part, fields, take);
    }
    let mut file = std::fs::File::open(&part.path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?.len();
    if found != part.file_bytes {
        return Err(malformed_file(
            &part.path,
            &format!("it had {} bytes when it was listed, and now has {found}", part.file_bytes),
        ));
    }
    let name = part.path.to_string_lossy();
    let unpack: Box<dyn Read + Send> = match unpacked(&name).1 {
        Compression::None => {
            if let Cut::Block { start, .. } = part.cut {
                let start = lines::enter(&mut file, part.format, start).map_err(failed)?;
                file.seek(SeekFrom::Start(start)).map_err(failed)?;
                let lines = lines::Lines::new(BufReader::with_capacity(BUFFER_BYTES, file), start);
                return lines::read(lines, part, take);
            }
            Box::new(file)
        }
        Compression::Gzip => Box::new(compressed::gzip(file)),
        Compression::Zstd => Box::new(compressed::zstd(file)),
    };
    match part.format {
        Format::Text | Format::Auto => whole::read(unpack, part, text_bytes_max, take),
        Format::Lines | Format::Paragraphs | Format::Jsonl | Format::Parquet => {
            lines::read(lines::Lines::new(BufReader::with_capacity(BUFFER_BYTES, unpack), 0), part, take)
        }
    }
}

/// The number of the line, counted from 1, that begins at the byte `start` of an uncompressed file. Reads all
/// that lies before.
///
/// # Errors
/// When the file can't be read.
pub fn line_of(path: &Path, start: u64) -> Result<u64, Error> {
    lines::line_of(path, start).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn malformed_file(path: &Path, reason: &str) -> Error {
    Error::Read {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, reason.to_owned()),
    }
}

fn row_groups(path: &Path) -> Result<Vec<u64>, Error> {
    parquet::row_groups(path)
}

fn rows(part: &Part, fields: &Fields, take: &mut Take) -> Result<(), Error> {
    parquet::read(part, fields, take)
}
