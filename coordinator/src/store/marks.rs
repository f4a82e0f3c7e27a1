//! What was last acknowledged as durable, in a file of its own beside the databases.
//!
//! A database whose end is damaged opens as a shorter one: sled takes a damaged record for one that was never
//! finished. So the number of the last record that we acknowledged is written down elsewhere, after the sync
//! that made it durable. It is not synced itself: after a power cut it may be older than the database, which
//! is harmless, but never newer. So a database that ends before its mark has lost something, and is refused.

use super::error::StoreError;
use crate::store::error::io_error;
use muster_replica::disk::DiskError;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// Raft's log.
    RaftLog,
    /// The ledger.
    Ledger,
}

/// The file of marks.
#[derive(Debug)]
pub struct Marks {
    path: PathBuf,
    file: File,
}

/// A mark, twice: its complement shows that it is whole.
const MARK_BYTES: usize = 16;

impl Marked {
    fn offset(self) -> u64 {
        match self {
            Marked::RaftLog => 0,
            Marked::Ledger => MARK_BYTES as u64,
        }
    }
}

impl Marks {
    /// Opens the marks of a data directory.
    pub fn open(dir: &Path) -> Result<Marks, StoreError> {
        let path = dir.join("marks");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|source| StoreError::io(&path, source))?;
        Ok(Marks { path, file })
    }

    /// The number of the last record that was acknowledged; 0: not known.
    pub fn get(&self, which: Marked) -> u64 {
        let mut bytes = [0; MARK_BYTES];
        if self.file.read_exact_at(&mut bytes, which.offset()).is_err() {
            return 0;
        }
        let (mark, check) = bytes.split_at(8);
        let [mark, check] = [mark, check].map(|half| half.try_into().map_or(0, u64::from_le_bytes));
        if mark == !check { mark } else { 0 }
    }

    /// Writes down that everything up to this record is durable.
    pub fn set(&self, which: Marked, mark: u64) -> Result<(), DiskError> {
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(&mark.to_le_bytes());
        bytes[8..].copy_from_slice(&(!mark).to_le_bytes());
        self.file.write_all_at(&bytes, which.offset()).map_err(|source| io_error(&self.path, source))
    }
}
