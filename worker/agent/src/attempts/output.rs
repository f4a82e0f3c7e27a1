//! An attempt's output on disk: for each stream a row of files, each named by the offset of its first byte,
//! so that offsets stay true when the oldest files are dropped.

use muster_protocol::bus::Stream;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::fs as async_fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// One file at most; then the next begins.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Files of one stream of one attempt at most; the oldest is dropped.
const FILES_MAX: usize = 8;
/// What is read from a process at once.
const READ_BYTES: usize = 64 << 10;
/// How much of its last words an attempt's failure quotes.
const LAST_WORDS_BYTES: usize = 400;

/// How far a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// Bytes that were written, and can be read.
    pub(crate) bytes: u64,
    /// No more will come.
    pub(crate) closed: bool,
}

/// Writes one stream of an attempt.
#[derive(Debug)]
pub(crate) struct Writer {
    directory: PathBuf,
    stream: Stream,
    bases: VecDeque<u64>,
    file: Option<async_fs::File>,
    file_bytes: u64,
    file_bytes_max: u64,
    end: watch::Sender<End>,
    last_words: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(directory: &Path, stream: Stream) -> Writer {
        Writer::with_files_of(directory, stream, FILE_BYTES_MAX)
    }

    fn with_files_of(directory: &Path, stream: Stream, file_bytes_max: u64) -> Writer {
        Writer {
            directory: directory.to_path_buf(),
            stream,
            bases: VecDeque::new(),
            file: None,
            file_bytes: 0,
            file_bytes_max,
            end: watch::Sender::new(End::default()),
            last_words: Vec::new(),
        }
    }

    /// Tells how far it is.
    pub(crate) fn watch(&self) -> watch::Receiver<End> {
        self.end.subscribe()
    }

    /// Takes everything that comes out of the pipe, until its end.
    pub(crate) async fn drain(&mut self, mut from: pipe::Receiver) {
        let mut bytes = vec![0; READ_BYTES];
        let mut told = false;
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            // A full disk must not stop the process that writes: what does not fit is lost, and said once.
            if let Err(error) = self.write(&bytes[..read]).await
                && !std::mem::replace(&mut told, true)
            {
                tracing::error!(%error, directory = %self.directory.display(), "cannot keep the output of an attempt");
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
        self.last_words.extend_from_slice(&bytes[bytes.len().saturating_sub(LAST_WORDS_BYTES)..]);
        let surplus = self.last_words.len().saturating_sub(LAST_WORDS_BYTES);
        self.last_words.drain(..surplus);
    }

    /// No more will come. Gives the last line that was written.
    pub(crate) fn close(&mut self) -> String {
        self.file = None;
        self.end.send_modify(|end| end.closed = true);
        let words = String::from_utf8_lossy(&self.last_words);
        words.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_string()
    }
}

fn path(directory: &Path, stream: Stream, base: u64) -> PathBuf {
    directory.join(format!("{stream}.{base}"))
}

/// What there is at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// It is the end, for now at least.
    AtEnd,
    /// It was dropped; the oldest byte that is kept has this offset.
    Dropped { first: u64 },
}

/// Reads at most so many bytes of a stream, from an offset on.
pub(crate) fn read(directory: &Path, stream: Stream, offset: u64, bytes_max: usize) -> io::Result<Piece> {
    let prefix = format!("{stream}.");
    let base = |entry: io::Result<fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()
    };
    let mut bases: Vec<u64> = fs::read_dir(directory)?.filter_map(base).collect();
    bases.sort_unstable();
    let Some(base) = bases.iter().rev().copied().find(|base| *base <= offset) else {
        return Ok(bases.first().map_or(Piece::AtEnd, |first| Piece::Dropped { first: *first }));
    };
    let mut file = File::open(path(directory, stream, base))?;
    file.seek(SeekFrom::Start(offset - base))?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(if bytes.is_empty() { Piece::AtEnd } else { Piece::Bytes(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn offsets_stay_true_when_files_are_dropped() {
        let temp = tempfile::tempdir().unwrap();
        let mut writer = Writer::with_files_of(temp.path(), Stream::Stdout, 10);
        let line = |n: u32| format!("line {n:04}\n");
        for n in 0..200 {
            writer.write(line(n).as_bytes()).await.unwrap();
        }
        assert_eq!(*writer.watch().borrow(), End { bytes: 2_000, closed: false });
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), FILES_MAX);
        let read = |offset| read(temp.path(), Stream::Stdout, offset, 100).unwrap();
        assert_eq!(read(1_990), Piece::Bytes(line(199).into_bytes()));
        assert_eq!(read(1_925), Piece::Bytes(line(192).into_bytes()[5..].to_vec()));
        assert_eq!(read(2_000), Piece::AtEnd);
        assert_eq!(read(0), Piece::Dropped { first: 1_920 });
        assert_eq!(super::read(temp.path(), Stream::Stderr, 0, 1).unwrap(), Piece::AtEnd);
        assert_eq!(writer.close(), "line 0199");
    }
}
