//! The formats of source files, and how a file name tells them apart.

use crate::Error;
use serde::{Deserialize, Serialize};

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
    pub fn of(self, name: &str) -> Self {
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
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// `name` without the ending of a compression, and which that is.
pub fn unpacked(name: &str) -> (&str, Compression) {
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
