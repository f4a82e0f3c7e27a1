//! One record of a source file, and its decoding to a document.

use super::fields::Fields;
use crate::Error;
use crate::documents::{Body, Place};
use crate::filters::DropReason;
use std::ops::ControlFlow;

/// A longer record is dropped as too large, without being held in memory.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// Bytes read at a time.
pub const BUFFER_BYTES: usize = 256 * 1024;

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
    pub raw: RawRecord,
}

/// A record's content, before anything has looked at it.
#[derive(Clone, Debug, PartialEq)]
pub enum RawRecord {
    /// Bytes that should be text.
    Text(Vec<u8>),
    /// Bytes that should be a JSON object.
    Json(Vec<u8>),
    /// What a row gave.
    Row(Result<Body, String>),
    /// It is too long to hold.
    TooLarge,
}

impl RawRecord {
    /// The document, or why there is none, with what is wrong if the record is malformed.
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn body(self, fields: &Fields) -> Result<Body, (DropReason, String)> {
        let malformed = |reason: String| (DropReason::Malformed, reason);
        match self {
            RawRecord::Text(bytes) => {
                String::from_utf8(bytes).map(Body::Text).map_err(|_| (DropReason::NotUtf8, String::new()))
            }
            RawRecord::Json(bytes) => {
                let text = std::str::from_utf8(&bytes)
                    .map_err(|e| malformed(format!("byte {} is no UTF-8", e.valid_up_to())))?;
                fields.of_json(text.trim_start_matches('\u{feff}')).map_err(malformed)
            }
            RawRecord::Row(row) => row.map_err(malformed),
            RawRecord::TooLarge => Err((DropReason::TooLarge, String::new())),
        }
    }
}

/// What takes the records; `Break` ends the reading.
pub type RecordSink<'a> = dyn FnMut(Record) -> Result<ControlFlow<()>, Error> + 'a;
