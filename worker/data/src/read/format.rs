//! The formats of source files, and how a file name tells them apart.

use crate::Error;
use serde::{Deserialize, Serialize};

/// How a file is divided into records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// By extension: `.jsonl` and `.ndjson` are JSON Lines, `.parquet` is Parquet, any other is `Text`.
    #[default]
    Auto,
    /// The file is one document.
    Text,
    /// Each line that isn't blank is a document.
    Lines,
    /// Documents stand between blank lines.
    Paragraphs,
    /// JSON Lines: each line is a JSON object.
    Jsonl,
    /// A Parquet table: each row is a document.
    Parquet,
}

impl Format {
    /// All formats by name.
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
    /// [`Error::Parameters`] with the known names.
    pub fn named(name: &str) -> Result<Self, Error> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        let known = || Self::NAMES.map(|(name, _)| name).join(", ");
        found
            .map(|(_, format)| *format)
            .ok_or_else(|| Error::Parameters(format!("there is no format {name:?}; there are {}", known())))
    }

    /// Resolves [`Format::Auto`] by a file name without `.gz` or `.zst`.
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

/// How a file is compressed, by extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// `name` without `.gz` or `.zst`, and the compression.
pub fn split_compression(name: &str) -> (&str, Compression) {
    if let Some(bare) = name.strip_suffix(".gz") {
        (bare, Compression::Gzip)
    } else if let Some(bare) = name.strip_suffix(".zst") {
        (bare, Compression::Zstd)
    } else {
        (name, Compression::None)
    }
}

/// The extension of a file name without that of a compression: `jsonl` for `a.jsonl` and `a.jsonl.gz`.
#[must_use]
pub fn ending(name: &str) -> Option<&str> {
    split_compression(name).0.rsplit_once('.').map(|(_, ending)| ending)
}
