//! One record of a source file, and its decoding to a document.

use super::fields::Fields;
use crate::Error;
use crate::documents::{Body, Place};
use crate::filters::DropReason;
use std::ops::ControlFlow;

/// Longer records are dropped as too large, without being held in memory.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// Bytes read at a time.
pub const BUFFER_BYTES: usize = 256 * 1024;

/// One record before decoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where in its file.
    pub place: Place,
    /// Its bytes in the (decompressed) file.
    pub bytes: u64,
    /// Its line, counted from 1, or its row, counted from 0. `None` in a block that does not begin the file:
    /// [`super::line_of`] can find it.
    pub line: Option<u64>,
    /// Its content.
    pub raw: RawRecord,
}

/// A record's content before decoding.
#[derive(Clone, Debug, PartialEq)]
pub enum RawRecord {
    /// Bytes that should be UTF-8 text.
    Text(Vec<u8>),
    /// Bytes that should be a JSON object.
    Json(Vec<u8>),
    /// The document of a table row, or what is wrong with the row.
    Row(Result<Body, String>),
    /// The record is longer than [`RECORD_BYTES_MAX`].
    TooLarge,
}

impl RawRecord {
    /// Decodes the document.
    ///
    /// # Errors
    /// The reason to drop the record, with a detail if it is malformed.
    pub fn body(self, fields: &Fields) -> Result<Body, (DropReason, String)> {
        let malformed = |reason: String| (DropReason::Malformed, reason);
        match self {
            RawRecord::Text(bytes) => {
                String::from_utf8(bytes).map(Body::Text).map_err(|_| (DropReason::NotUtf8, String::new()))
            }
            RawRecord::Json(bytes) => {
                let text = std::str::from_utf8(&bytes)
                    .map_err(|e| malformed(format!("byte {} is not UTF-8", e.valid_up_to())))?;
                fields.of_json(text.trim_start_matches('\u{feff}')).map_err(malformed)
            }
            RawRecord::Row(row) => row.map_err(malformed),
            RawRecord::TooLarge => Err((DropReason::TooLarge, String::new())),
        }
    }
}

/// Receives the records; `Break` ends the reading.
pub type RecordSink<'a> = dyn FnMut(Record) -> Result<ControlFlow<()>, Error> + 'a;
