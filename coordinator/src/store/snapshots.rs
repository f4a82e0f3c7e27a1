//! Snapshots, one file each, which is complete or absent.

use super::error::{StoreError, corrupt, io_error};
use super::leftovers;
use super::lock::Access;
use muster_host::durable;
use muster_protocol::ids::Digest;
use muster_replica::disk::DiskError;
use protobuf::Message;
use raft::eraftpb::Snapshot;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The beginning of a snapshot's file; the last byte is the version.
const MAGIC: &[u8; 8] = b"mustrsn\x01";
const HASH_BYTES: usize = 32;
const EXTENSION: &str = "snap";
/// A larger file is not read.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug)]
pub struct Snapshots {
    dir: PathBuf,
}

impl Snapshots {
    /// Opens the directory of snapshots, and creates it if it does not exist.
    pub fn open(dir: &Path, access: Access) -> Result<Snapshots, StoreError> {
        let open = || {
            if !dir.is_dir() {
                fs::create_dir_all(dir)?;
                durable::sync_parent(dir)?;
            }
            if access == Access::ReadWrite { leftovers::remove_leftovers(dir) } else { Ok(()) }
        };
        open().map_err(|source| StoreError::io(dir, source))?;
        Ok(Snapshots { dir: dir.to_path_buf() })
    }

    /// The newest intact snapshot, if the log reaches back to it. A damaged one is skipped only if nothing is
    /// lost by that.
    pub fn newest(&self, log_reaches_back_to: impl Fn(u64) -> bool) -> Result<Option<Snapshot>, DiskError> {
        let mut damaged = None;
        for index in self.indices()?.into_iter().rev() {
            let path = self.path(index);
            match self.read(&path, index) {
                Ok(snapshot) if log_reaches_back_to(index) => return Ok(Some(snapshot)),
                Ok(_) => break,
                Err(error @ DiskError::Corrupt { .. }) => {
                    tracing::warn!(%error, "skipping a damaged snapshot");
                    damaged.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if log_reaches_back_to(0) {
            return Ok(None);
        }
        let missing =
            || corrupt(self.dir.display().to_string(), "there is no snapshot that the log goes on from");
        Err(damaged.unwrap_or_else(missing))
    }

    /// The index of the newest snapshot, intact or not; 0 if there is none.
    pub fn newest_index(&self) -> Result<u64, DiskError> {
        Ok(self.indices()?.pop().unwrap_or(0))
    }

    /// Writes a snapshot and removes older ones.
    pub fn save(&self, snapshot: &Snapshot) -> Result<(), DiskError> {
        self.write(snapshot)?;
        self.remove_before(snapshot.get_metadata().index)
    }

    /// Writes a snapshot. It is durable on return.
    pub fn write(&self, snapshot: &Snapshot) -> Result<(), DiskError> {
        let path = self.path(snapshot.get_metadata().index);
        let bytes = snapshot
            .write_to_bytes()
            .expect("a message without required fields can always be written to memory");
        leftovers::write_file(&path, &[MAGIC, &Digest::of(&bytes).0, &bytes])
            .map_err(|source| io_error(&path, source))
    }

    /// Removes snapshots older than the one at `index`.
    pub fn remove_before(&self, index: u64) -> Result<(), DiskError> {
        for older in self.indices()?.into_iter().filter(|&older| older < index) {
            let path = self.path(older);
            fs::remove_file(&path).map_err(|source| io_error(&path, source))?;
        }
        Ok(())
    }

    fn path(&self, index: u64) -> PathBuf {
        self.dir.join(format!("{index:020}.{EXTENSION}"))
    }

    fn indices(&self) -> Result<Vec<u64>, DiskError> {
        let list = || fs::read_dir(&self.dir)?.map(|item| Ok(item?.path())).collect::<io::Result<Vec<_>>>();
        let paths = list().map_err(|source| io_error(&self.dir, source))?;
        let ours =
            paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
        let mut indices: Vec<u64> =
            ours.filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).collect();
        indices.sort_unstable();
        Ok(indices)
    }

    fn read(&self, path: &Path, index: u64) -> Result<Snapshot, DiskError> {
        let wrong = |what: &str| corrupt(path.display().to_string(), what);
        let bytes = fs::metadata(path).map_err(|source| io_error(path, source))?.len();
        if bytes > SNAPSHOT_BYTES_MAX {
            return Err(wrong("it is larger than any snapshot"));
        }
        let bytes = fs::read(path).map_err(|source| io_error(path, source))?;
        let body = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| wrong("it does not begin like a snapshot of this version"))?;
        let (hash, body) = body.split_at_checked(HASH_BYTES).ok_or_else(|| wrong("it is too short"))?;
        if hash != Digest::of(body).0 {
            return Err(wrong("its hash does not fit"));
        }
        let snapshot = Snapshot::parse_from_bytes(body).map_err(|error| wrong(&error.to_string()))?;
        if snapshot.get_metadata().index != index {
            return Err(wrong("it is the snapshot of another index"));
        }
        Ok(snapshot)
    }
}
