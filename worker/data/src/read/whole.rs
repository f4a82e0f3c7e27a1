//! Reads a file as one document.

use super::part::FilePart;
use super::record::{RECORD_BYTES_MAX, RawRecord, Record, RecordSink};
use crate::Error;
use crate::documents::Place;
use std::io::{self, Read};

/// Passes the file's text to `take` as one record. More than `bytes_max` bytes are counted but not held.
pub fn read(file: impl Read, part: &FilePart, bytes_max: u64, take: &mut RecordSink) -> Result<(), Error> {
    let failed = |source| Error::Read { path: part.path.clone(), source };
    let bound = bytes_max.min(RECORD_BYTES_MAX as u64);
    let mut text = Vec::new();
    let mut file = file;
    let held = (&mut file).take(bound + 1).read_to_end(&mut text).map_err(failed)? as u64;
    let (bytes, raw) = if held > bound {
        drop(text);
        (held + io::copy(&mut file, &mut io::sink()).map_err(failed)?, RawRecord::TooLarge)
    } else {
        (held, RawRecord::Text(text))
    };
    take(Record { place: Place::Whole, bytes, line: Some(1), raw }).map(|_| ())
}
