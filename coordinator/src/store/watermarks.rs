//! The last record of each database that was acknowledged as durable, in a file beside them.
//!
//! A database whose end is damaged opens as a shorter one: sled takes a damaged record for one that was never
//! finished. So the number of the last acknowledged record is written elsewhere, after the sync that made it
//! durable. It is not synced itself: after a power cut it may be older than the database, which is harmless,
//! but never newer. A database that ends before its watermark has lost something, and is refused.

use super::error::{StoreError, io_error};
use muster_replica::disk::DiskError;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watermark {
    RaftLog,
    Ledger,
}

#[derive(Debug)]
pub struct Watermarks {
    path: PathBuf,
    file: File,
}

/// A number and its complement, which shows that it is intact.
const WATERMARK_BYTES: usize = 16;

impl Watermark {
    fn offset(self) -> u64 {
        match self {
            Watermark::RaftLog => 0,
            Watermark::Ledger => WATERMARK_BYTES as u64,
        }
    }
}

impl Watermarks {
    pub fn open(dir: &Path) -> Result<Watermarks, StoreError> {
        let path = dir.join("marks");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|source| StoreError::io(&path, source))?;
        Ok(Watermarks { path, file })
    }

    /// The number of the last acknowledged record; 0 if unknown.
    pub fn get(&self, which: Watermark) -> u64 {
        let mut bytes = [0; WATERMARK_BYTES];
        if self.file.read_exact_at(&mut bytes, which.offset()).is_err() {
            return 0;
        }
        let (mark, check) = bytes.split_at(8);
        let [mark, check] = [mark, check].map(|half| half.try_into().map_or(0, u64::from_le_bytes));
        if mark == !check { mark } else { 0 }
    }

    /// Records that everything up to this record is durable.
    pub fn set(&self, which: Watermark, mark: u64) -> Result<(), DiskError> {
        let mut bytes = [0; WATERMARK_BYTES];
        bytes[..8].copy_from_slice(&mark.to_le_bytes());
        bytes[8..].copy_from_slice(&(!mark).to_le_bytes());
        self.file.write_all_at(&bytes, which.offset()).map_err(|source| io_error(&self.path, source))
    }
}
