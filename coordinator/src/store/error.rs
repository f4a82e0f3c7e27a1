//! Errors of the store, and the mapping of system errors to them.

use muster_replica::disk::DiskError;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{} was written in data format {found}, but this build knows formats up to {known}: use a newer muster", dir.display())]
    NewerFormat { dir: PathBuf, found: u32, known: u32 },
    #[error("{} is in use by {}", dir.display(), process(*pid))]
    InUse {
        dir: PathBuf,
        /// The other process, if known.
        pid: Option<u32>,
    },
    #[error("{} belongs to {field} {found:?}, not to {expected:?}", dir.display())]
    OtherIdentity {
        dir: PathBuf,
        /// What differs: `cluster`, `coordinator` or `raft id`.
        field: &'static str,
        found: String,
        expected: String,
    },
    #[error("{} is not the data directory of a coordinator: it has no file \"identity\"", dir.display())]
    NotAStore { dir: PathBuf },
    #[error("no permission to use {}", path.display())]
    NoPermission { path: PathBuf },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn process(pid: Option<u32>) -> String {
    pid.map_or("another process".to_string(), |pid| format!("process {pid}"))
}

impl StoreError {
    /// Maps a system error while opening.
    pub(super) fn io(path: &Path, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StoreError::NoPermission { path: path.to_path_buf() }
            }
            _ => StoreError::Disk(io_error(path, source)),
        }
    }
}

/// Maps a system error.
pub(super) fn io_error(path: &Path, source: io::Error) -> DiskError {
    let place = path.display().to_string();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::NoSpace { place },
        _ => DiskError::Io { place, source },
    }
}

/// An error for bytes that differ from what was written.
pub(super) fn corrupt(place: impl Into<String>, what: impl Into<String>) -> DiskError {
    DiskError::Corrupt { place: place.into(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_become_errors_that_say_what_to_do() {
        let path = Path::new("/data/c1");
        for (kind, expected) in [
            (
                io::ErrorKind::StorageFull,
                "no space left for /data/c1; after making room, restart the coordinator",
            ),
            (
                io::ErrorKind::QuotaExceeded,
                "no space left for /data/c1; after making room, restart the coordinator",
            ),
            (io::ErrorKind::PermissionDenied, "no permission to use /data/c1"),
            (io::ErrorKind::ReadOnlyFilesystem, "no permission to use /data/c1"),
        ] {
            assert_eq!(StoreError::io(path, io::Error::from(kind)).to_string(), expected);
        }
        let other = io_error(path, io::Error::from(io::ErrorKind::TimedOut)).to_string();
        assert_eq!(other, "cannot read or write /data/c1: timed out; restart the coordinator");
    }
}
