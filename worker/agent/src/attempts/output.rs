//! An attempt's output on disk. Each stream is a series of files, each named by the offset of its first byte,
//! so that offsets stay valid when the oldest files are removed.

use muster_protocol::bus::Stream;
use muster_protocol::ids::AttemptId;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::fs as async_fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// After this many bytes the next file begins.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Files that are kept of one stream.
const FILES_MAX: usize = 8;
/// How much is read from a pipe at once.
const READ_BYTES: usize = 64 << 10;
/// The end of the output that is kept in memory, for the last line in an attempt's failure.
const TAIL_BYTES: usize = 400;

/// How long a stream is by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StreamEnd {
    /// Bytes that can be read.
    pub(super) bytes: u64,
    /// No more will come.
    pub(super) closed: bool,
}

/// Of each running attempt, stdout and stderr.
pub(super) type OutputEnds = BTreeMap<AttemptId, [watch::Receiver<StreamEnd>; 2]>;

/// Writes one stream of an attempt.
#[derive(Debug)]
pub(super) struct OutputWriter {
    directory: PathBuf,
    stream: Stream,
    bases: VecDeque<u64>,
    file: Option<async_fs::File>,
    file_bytes: u64,
    file_bytes_max: u64,
    end: watch::Sender<StreamEnd>,
    tail: Vec<u8>,
}

impl OutputWriter {
    pub(super) fn new(directory: &Path, stream: Stream) -> OutputWriter {
        OutputWriter::with_files_of(directory, stream, FILE_BYTES_MAX)
    }

    fn with_files_of(directory: &Path, stream: Stream, file_bytes_max: u64) -> OutputWriter {
        OutputWriter {
            directory: directory.to_path_buf(),
            stream,
            bases: VecDeque::new(),
            file: None,
            file_bytes: 0,
            file_bytes_max,
            end: watch::Sender::new(StreamEnd::default()),
            tail: Vec::new(),
        }
    }

    /// Follows how long the stream is.
    pub(super) fn watch(&self) -> watch::Receiver<StreamEnd> {
        self.end.subscribe()
    }

    /// Writes everything that comes out of the pipe, until its end.
    pub(super) async fn drain(&mut self, mut from: pipe::Receiver) {
        let mut bytes = vec![0; READ_BYTES];
        let mut reported = false;
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            // A full disk must not stop the attempt: what does not fit is lost, and logged once.
            if let Err(error) = self.write(&bytes[..read]).await
                && !std::mem::replace(&mut reported, true)
            {
                tracing::error!(%error, directory = %self.directory.display(), "cannot write the output of an attempt");
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.remember(bytes);
        let base = self.end.borrow().bytes;
        let file = match &mut self.file {
            Some(file) if self.file_bytes < self.file_bytes_max => file,
            _ => {
                let file = async_fs::File::create(path(&self.directory, self.stream, base)).await?;
                self.bases.push_back(base);
                self.file_bytes = 0;
                if self.bases.len() > FILES_MAX
                    && let Some(oldest) = self.bases.pop_front()
                {
                    async_fs::remove_file(path(&self.directory, self.stream, oldest)).await?;
                }
                self.file.insert(file)
            }
        };
        file.write_all(bytes).await?;
        file.flush().await?;
        self.file_bytes += bytes.len() as u64;
        self.end.send_modify(|end| end.bytes += bytes.len() as u64);
        Ok(())
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
    }

    /// Ends the stream, and returns its last line that is not blank.
    pub(super) fn close(&mut self) -> String {
        self.file = None;
        self.end.send_modify(|end| end.closed = true);
        let text = String::from_utf8_lossy(&self.tail);
        text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_string()
    }
}

fn path(directory: &Path, stream: Stream, base: u64) -> PathBuf {
    directory.join(format!("{stream}.{base}"))
}

/// What was found at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadOutput {
    Bytes(Vec<u8>),
    /// The end of what is written so far.
    AtEnd,
    /// Removed; the oldest byte that is kept has the offset `first`.
    Removed {
        first: u64,
    },
}

/// Reads at most `bytes_max` bytes of a stream, from an offset on.
pub(super) fn read(
    directory: &Path,
    stream: Stream,
    offset: u64,
    bytes_max: usize,
) -> io::Result<ReadOutput> {
    let prefix = format!("{stream}.");
    let base = |entry: io::Result<fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()
    };
    let mut bases: Vec<u64> = fs::read_dir(directory)?.filter_map(base).collect();
    bases.sort_unstable();
    let Some(base) = bases.iter().rev().copied().find(|base| *base <= offset) else {
        return Ok(bases.first().map_or(ReadOutput::AtEnd, |first| ReadOutput::Removed { first: *first }));
    };
    let mut file = File::open(path(directory, stream, base))?;
    file.seek(SeekFrom::Start(offset - base))?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(if bytes.is_empty() { ReadOutput::AtEnd } else { ReadOutput::Bytes(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn offsets_stay_valid_when_files_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let mut writer = OutputWriter::with_files_of(temp.path(), Stream::Stdout, 10);
        let line = |n: u32| format!("line {n:04}\n");
        for n in 0..200 {
            writer.write(line(n).as_bytes()).await.unwrap();
        }
        assert_eq!(*writer.watch().borrow(), StreamEnd { bytes: 2_000, closed: false });
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), FILES_MAX);
        let read = |offset| read(temp.path(), Stream::Stdout, offset, 100).unwrap();
        assert_eq!(read(1_990), ReadOutput::Bytes(line(199).into_bytes()));
        assert_eq!(read(1_925), ReadOutput::Bytes(line(192).into_bytes()[5..].to_vec()));
        assert_eq!(read(2_000), ReadOutput::AtEnd);
        assert_eq!(read(0), ReadOutput::Removed { first: 1_920 });
        assert_eq!(super::read(temp.path(), Stream::Stderr, 0, 1).unwrap(), ReadOutput::AtEnd);
        assert_eq!(writer.close(), "line 0199");
    }
}
