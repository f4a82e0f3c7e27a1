//! Who has a data directory open, and for what.

use super::error::StoreError;
use super::retry;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// More than any process id takes.
const PID_BYTES_MAX: u64 = 64;

/// Whether opening may change files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    ReadOnly,
}

/// A data directory held by this process. Dropping it releases it, and so does any end of the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks a data directory, and writes the process id into its lock file.
    pub fn take(dir: &Path) -> Result<Lock, StoreError> {
        let path = dir.join("lock");
        let wrong = |source| StoreError::io(&path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(wrong)?;
        match retry::until_free(|| file.try_lock(), |error| matches!(error, TryLockError::WouldBlock)) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.take(PID_BYTES_MAX).read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(StoreError::InUse { dir: dir.to_path_buf(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(wrong(source)),
        }
        let mut write = || {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write().map_err(wrong)?;
        Ok(Lock { _file: file })
    }
}
