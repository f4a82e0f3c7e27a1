//! Why a data directory cannot be opened, and what the system's errors become.

use muster_replica::disk::DiskError;
use std::io;
use std::path::{Path, PathBuf};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer build wrote it.
    #[error("{} was written in data format {found}, but this build knows formats up to {known}: use a newer muster", dir.display())]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format that this build knows.
        known: u32,
    },
    /// Another process has it.
    #[error("{} is in use by {}", dir.display(), process(*pid))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other process, if it said so.
        pid: Option<u32>,
    },
    /// It belongs to another coordinator.
    #[error("{} belongs to {field} {found:?}, not to {expected:?}", dir.display())]
    OtherIdentity {
        /// The directory.
        dir: PathBuf,
        /// What differs: `cluster`, `coordinator` or `raft id`.
        field: &'static str,
        /// What is written there.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// There is no data directory, or something else is there.
    #[error("{} is not the data directory of a coordinator: it has no file \"identity\"", dir.display())]
    NotAStore {
        /// The directory.
        dir: PathBuf,
    },
    /// The system does not let us.
    #[error("no permission to use {}", path.display())]
    NoPermission {
        /// The file or directory.
        path: PathBuf,
    },
    /// Reading, writing, or what was read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn process(pid: Option<u32>) -> String {
    pid.map_or("another process".to_string(), |pid| format!("process {pid}"))
}

impl StoreError {
    /// What a system error on the way in means.
    pub(super) fn io(path: &Path, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StoreError::NoPermission { path: path.to_path_buf() }
            }
            _ => StoreError::Disk(io_error(path, source)),
        }
    }
}

/// What a system error on the way means.
pub(super) fn io_error(path: &Path, source: io::Error) -> DiskError {
    let place = path.display().to_string();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::NoSpace { place },
        _ => DiskError::Io { place, source },
    }
}

/// Bytes at a place that are not what was written.
pub(super) fn corrupt(place: impl Into<String>, what: impl Into<String>) -> DiskError {
    DiskError::Corrupt { place: place.into(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_becomes_what_can_be_done() {
        let path = Path::new("/data/c1");
        for (kind, expected) in [
            (
                io::ErrorKind::StorageFull,
                "no space left for /data/c1; after making room, start the coordinator again",
            ),
            (
                io::ErrorKind::QuotaExceeded,
                "no space left for /data/c1; after making room, start the coordinator again",
            ),
            (io::ErrorKind::PermissionDenied, "no permission to use /data/c1"),
            (io::ErrorKind::ReadOnlyFilesystem, "no permission to use /data/c1"),
        ] {
            assert_eq!(StoreError::io(path, io::Error::from(kind)).to_string(), expected);
        }
        let other = io_error(path, io::Error::from(io::ErrorKind::TimedOut)).to_string();
        assert_eq!(
            other,
            "cannot read or write /data/c1: timed out; the coordinator has to be started again"
        );
    }
}
