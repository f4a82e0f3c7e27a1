//! A part of a source file: the unit that is dealt out to splits and read at once.

use super::format::Format;
use crate::Error;
use std::path::{Path, PathBuf};

/// The range of a file that a part covers. The scan's fingerprint hashes its `Debug` form: keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartRange {
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

/// A part of a file, read at once by one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes when it was listed.
    pub file_bytes: u64,
    /// Its format; never [`Format::Auto`].
    pub format: Format,
    /// The range.
    pub range: PartRange,
    /// Bytes of the part on disk, compressed if the file is.
    pub bytes: u64,
}

pub fn invalid_file(path: &Path, reason: &str) -> Error {
    Error::Read {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, reason.to_owned()),
    }
}
