//! Lines and paragraphs as records, from a block of a file.
//!
//! A record belongs to the block in which its first byte lies, so a reader skips a record that began
//! before the block, and reads the last one to its end, beyond the block. Lines end with `\n` or `\r\n`.

use super::format::Format;
use super::part::{FilePart, PartRange};
use super::record::{BUFFER_BYTES, RECORD_BYTES_MAX, RawRecord, Record, RecordSink};
use crate::Error;
use crate::documents::Place;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// A line reader that tracks its byte position.
pub struct Lines<R> {
    source: R,
    position: u64,
    /// Lines read.
    count: u64,
}

/// A line without its line ending; `long` if it exceeds the limit, and then its text is not kept.
struct Line {
    start: u64,
    /// One past its last byte that is text.
    end: u64,
    /// From where lines were counted, the first is 1.
    number: u64,
    long: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads lines from a source whose first byte is at `position` of the file.
    pub fn new(source: R, position: u64) -> Self {
        Self { source, position, count: 0 }
    }

    /// The next line into `text`, at most `room` bytes of it.
    fn next(&mut self, text: &mut Vec<u8>, room: usize) -> io::Result<Option<Line>> {
        text.clear();
        let start = self.position;
        let mut read = (&mut self.source).take(room as u64 + 2).read_until(b'\n', text)? as u64;
        if read == 0 {
            return Ok(None);
        }
        let mut end = start + read;
        let long = text.last() != Some(&b'\n') && text.len() > room;
        if long {
            text.clear();
            let rest = skip_line(&mut self.source)?;
            read += rest.bytes;
            end = start + read - u64::from(rest.ended);
        } else if text.last() == Some(&b'\n') {
            text.pop();
            end -= 1;
        }
        if text.last() == Some(&b'\r') {
            text.pop();
            end -= 1;
        }
        self.position = start + read;
        self.count += 1;
        Ok(Some(Line { start, end, number: self.count, long }))
    }
}

struct Skipped {
    bytes: u64,
    ended: bool,
}

fn skip_line(source: &mut impl BufRead) -> io::Result<Skipped> {
    let mut bytes = 0;
    loop {
        let buffer = source.fill_buf()?;
        if buffer.is_empty() {
            return Ok(Skipped { bytes, ended: false });
        }
        let at = buffer.iter().position(|byte| *byte == b'\n');
        let count = at.map_or(buffer.len(), |at| at + 1);
        source.consume(count);
        bytes += count as u64;
        if at.is_some() {
            return Ok(Skipped { bytes, ended: true });
        }
    }
}

/// Where reading must begin for the block at `start`: at the line with the byte before, to see where that
/// line ends and, for paragraphs, whether it is blank.
pub fn block_entry(file: &mut File, format: Format, start: u64) -> io::Result<u64> {
    let Some(mut end) = start.checked_sub(1) else { return Ok(0) };
    match format {
        Format::Paragraphs => {}
        // Only where the line ends matters: the byte before is enough.
        Format::Lines | Format::Jsonl | Format::Auto | Format::Text | Format::Parquet => return Ok(end),
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    while end > 0 {
        let count = end.min(BUFFER_BYTES as u64);
        let part = &mut buffer[..count as usize];
        file.seek(SeekFrom::Start(end - count))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(end - count + at as u64 + 1);
        }
        end -= count;
    }
    Ok(0)
}

/// Passes the records of a part to `take`; `lines` must begin at [`block_entry`].
pub fn read(mut lines: Lines<impl BufRead>, part: &FilePart, take: &mut RecordSink) -> Result<(), Error> {
    let failed = |source| Error::Read { path: part.path.clone(), source };
    let (start, end) = match part.range {
        PartRange::Block { start, end } => (start, end),
        PartRange::All | PartRange::RowGroup(_) => (0, u64::MAX),
    };
    match part.format {
        Format::Paragraphs => read_paragraphs(&mut lines, start, end, failed, take),
        Format::Lines | Format::Jsonl | Format::Auto | Format::Text | Format::Parquet => {
            let wrap = if part.format == Format::Jsonl { RawRecord::Json } else { RawRecord::Text };
            read_lines(&mut lines, start, end, wrap, failed, take)
        }
    }
}

fn read_lines(
    lines: &mut Lines<impl BufRead>,
    start: u64,
    end: u64,
    wrap: fn(Vec<u8>) -> RawRecord,
    failed: impl Fn(io::Error) -> Error,
    take: &mut RecordSink,
) -> Result<(), Error> {
    if start > 0 {
        // Skip the rest of the line that began before this block.
        let skipped = skip_line(&mut lines.source).map_err(&failed)?;
        lines.position += skipped.bytes;
    }
    let mut text = Vec::new();
    while lines.position < end {
        let Some(line) = lines.next(&mut text, RECORD_BYTES_MAX).map_err(&failed)? else { break };
        if !line.long && blank(&text) {
            continue;
        }
        let raw = if line.long { RawRecord::TooLarge } else { wrap(std::mem::take(&mut text)) };
        let place = Place::Bytes { start: line.start, end: line.end };
        let record =
            Record { place, bytes: line.end - line.start, line: (start == 0).then_some(line.number), raw };
        if take(record)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// An unfinished paragraph.
struct Open {
    start: u64,
    end: u64,
    number: u64,
    text: Vec<u8>,
    long: bool,
    /// Whether it began before the block.
    foreign: bool,
}

fn read_paragraphs(
    lines: &mut Lines<impl BufRead>,
    start: u64,
    end: u64,
    failed: impl Fn(io::Error) -> Error,
    take: &mut RecordSink,
) -> Result<(), Error> {
    let mut text = Vec::new();
    let mut open: Option<Open> = None;
    loop {
        // No further paragraph begins in this block.
        if open.is_none() && lines.position >= end {
            return Ok(());
        }
        let line = lines.next(&mut text, RECORD_BYTES_MAX).map_err(&failed)?;
        if let Some(line) = line.filter(|line| line.long || !blank(&text)) {
            let paragraph = open.get_or_insert_with(|| Open {
                start: line.start,
                end: line.end,
                number: line.number,
                text: Vec::new(),
                long: false,
                // A line that begins before the block is the end of a paragraph that does, or all of it.
                foreign: line.start < start,
            });
            if paragraph.end < line.start && !paragraph.text.is_empty() {
                paragraph.text.push(b'\n');
            }
            paragraph.end = line.end;
            paragraph.long |=
                line.long || paragraph.foreign || paragraph.text.len() + text.len() > RECORD_BYTES_MAX;
            if paragraph.long {
                paragraph.text = Vec::new();
            } else {
                paragraph.text.extend_from_slice(&text);
            }
            continue;
        }
        if let Some(done) = open.take().filter(|open| !open.foreign) {
            let raw = if done.long { RawRecord::TooLarge } else { RawRecord::Text(done.text) };
            let place = Place::Bytes { start: done.start, end: done.end };
            let record = Record {
                place,
                bytes: done.end - done.start,
                line: (start == 0).then_some(done.number),
                raw,
            };
            if take(record)?.is_break() {
                return Ok(());
            }
        }
        if lines.source.fill_buf().map_err(&failed)?.is_empty() {
            return Ok(());
        }
    }
}

fn blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// As [`super::line_of`].
pub fn line_of(path: &Path, start: u64) -> io::Result<u64> {
    let mut before = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?.take(start));
    let mut line = 1;
    loop {
        let buffer = before.fill_buf()?;
        if buffer.is_empty() {
            return Ok(line);
        }
        line += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        let count = buffer.len();
        before.consume(count);
    }
}
