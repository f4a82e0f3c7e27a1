//! Reads source files of several formats as a stream of records, in parts that different machines can read.
//!
//! Formats: text (a file, a line or a paragraph is a document), JSON Lines and Parquet; text and JSON Lines
//! also compressed, as `.gz` and `.zst`. A file of lines is cut into blocks of bytes, and a record belongs to
//! the block in which its first byte lies; a Parquet file is cut into its row groups; a compressed file is
//! one part, since reading can't begin in its middle. Together the parts give each record once.
//!
//! Reading is one thread's work and gives bytes; [`RawRecord::body`] makes a document of them, and may run on
//! many threads. It never holds more of a file than one record, whose length is bounded.

mod compressed;
mod fields;
mod format;
mod lines;
mod parquet;
mod part;
mod record;
#[cfg(test)]
mod tests;
mod whole;

pub use fields::Fields;
pub use format::{Format, ending};
pub use part::{FilePart, PartRange};
pub use record::{RECORD_BYTES_MAX, RawRecord, Record, RecordSink};

use super::Error;
use format::{Compression, split_compression};
use part::invalid_file;
use record::BUFFER_BYTES;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Divides a file of `file_bytes` bytes into parts, in order: blocks of `block_bytes`, row groups, or the
/// whole file.
///
/// # Errors
/// [`Error::Read`] if a Parquet file can't be opened or is compressed as a whole.
pub fn parts(path: &Path, file_bytes: u64, format: Format, block_bytes: u64) -> Result<Vec<FilePart>, Error> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (bare, compression) = split_compression(&name);
    let format = format.of(bare);
    let part = |range, bytes| FilePart { path: path.to_owned(), file_bytes, format, range, bytes };
    Ok(match (format, compression) {
        (Format::Parquet, Compression::Gzip | Compression::Zstd) => {
            return Err(invalid_file(
                path,
                "a compressed Parquet file can't be read: decompress it; its pages are compressed already",
            ));
        }
        (Format::Parquet, Compression::None) => parquet::row_groups(path)?
            .into_iter()
            .enumerate()
            .map(|(group, bytes)| part(PartRange::RowGroup(group), bytes))
            .collect(),
        (Format::Lines | Format::Paragraphs | Format::Jsonl, Compression::None)
            if file_bytes > block_bytes.max(1) =>
        {
            let blocks = (0..file_bytes).step_by(usize::try_from(block_bytes.max(1)).unwrap_or(usize::MAX));
            let block = |start: u64| (start, start.saturating_add(block_bytes.max(1)).min(file_bytes));
            blocks.map(block).map(|(start, end)| part(PartRange::Block { start, end }, end - start)).collect()
        }
        (Format::Auto | Format::Text | Format::Lines | Format::Paragraphs | Format::Jsonl, _) => {
            vec![part(PartRange::All, file_bytes)]
        }
    })
}

/// Passes the records of a part to `take`, in order. A file that is one document of more than
/// `text_bytes_max` bytes is not held in memory, and gives [`RawRecord::TooLarge`].
///
/// # Errors
/// [`Error::Read`] with the path if the file can't be read or decompressed, or its length has changed since
/// it was listed; any error that `take` returns.
pub fn read(
    part: &FilePart,
    fields: &Fields,
    text_bytes_max: u64,
    take: &mut RecordSink,
) -> Result<(), Error> {
    let failed = |source| Error::Read { path: part.path.clone(), source };
    if part.format == Format::Parquet {
        return parquet::read(part, fields, take);
    }
    let mut file = std::fs::File::open(&part.path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?.len();
    if found != part.file_bytes {
        return Err(invalid_file(
            &part.path,
            &format!("it had {} bytes when it was listed, and now has {found}", part.file_bytes),
        ));
    }
    let name = part.path.to_string_lossy();
    let decompressed: Box<dyn Read + Send> = match split_compression(&name).1 {
        Compression::None => {
            if let PartRange::Block { start, .. } = part.range {
                let start = lines::block_entry(&mut file, part.format, start).map_err(failed)?;
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
        Format::Text | Format::Auto => whole::read(decompressed, part, text_bytes_max, take),
        Format::Lines | Format::Paragraphs | Format::Jsonl | Format::Parquet => lines::read(
            lines::Lines::new(BufReader::with_capacity(BUFFER_BYTES, decompressed), 0),
            part,
            take,
        ),
    }
}

/// The number, from 1, of the line that begins at byte `start` of an uncompressed file. Reads everything
/// before it.
///
/// # Errors
/// [`Error::Read`] if the file can't be read.
pub fn line_of(path: &Path, start: u64) -> Result<u64, Error> {
    lines::line_of(path, start).map_err(|source| Error::Read { path: path.to_owned(), source })
}
