//! A worker's data directory, which keeps the worker's identity. It belongs to one cluster, and one process
//! uses it at a time.

use muster_host::durable;
use muster_protocol::ids::WorkerIdentity;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The format that this build writes, and the newest that it reads.
const FORMAT: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("cannot use the data directory: {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the data directory {path} is in use by {by}")]
    InUse { path: PathBuf, by: String },
    #[error(
        "the data directory {path} has format {found}, but this build reads formats up to {FORMAT}; use a newer muster"
    )]
    Newer { path: PathBuf, found: u32 },
    #[error("the data directory {path} belongs to a worker of cluster {found}, not of {wanted}")]
    OtherCluster { path: PathBuf, found: String, wanted: String },
    #[error("cannot use the data directory: {path} is not a worker's identity file: {why}")]
    Damaged { path: PathBuf, why: String },
}

#[derive(Serialize, Deserialize)]
struct IdentityFile {
    format: u32,
    worker: WorkerIdentity,
    cluster: String,
}

/// Reads the format alone, since a newer build may write other fields.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// A locked data directory; dropping this unlocks it.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: WorkerIdentity,
    _lock: File,
}

impl DataDir {
    /// Opens or creates it. `fresh` is the identity of a new one.
    pub fn open(path: &Path, cluster: &str, fresh: WorkerIdentity) -> Result<DataDir, DataError> {
        fs::create_dir_all(path).map_err(at(path))?;
        let path = path.canonicalize().map_err(at(path))?;
        let lock = lock(&path)?;
        let identity = identity(&path, cluster, fresh)?;
        let data = DataDir { path, identity, _lock: lock };
        let attempts = data.attempts();
        fs::create_dir_all(&attempts).map_err(at(&attempts))?;
        // Other users must not read the output and parameters of jobs.
        fs::set_permissions(&attempts, fs::Permissions::from_mode(0o700)).map_err(at(&attempts))?;
        Ok(data)
    }

    pub fn identity(&self) -> WorkerIdentity {
        self.identity
    }

    /// The directory in which each attempt gets one of its own.
    pub fn attempts(&self) -> PathBuf {
        self.path.join("attempts")
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_path_buf();
    |source| DataError::Io { path, source }
}

fn lock(path: &Path) -> Result<File, DataError> {
    let file = path.join("lock");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file)
        .map_err(at(&file))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut by = String::new();
        // The owner has written its process id there, or is about to.
        let known = lock.read_to_string(&mut by).is_ok() && !by.trim().is_empty();
        let by = if known { format!("process {}", by.trim()) } else { "another process".to_string() };
        return Err(DataError::InUse { path: path.to_path_buf(), by });
    }
    lock.set_len(0).map_err(at(&file))?;
    writeln!(lock, "{}", std::process::id()).map_err(at(&file))?;
    Ok(lock)
}

fn identity(path: &Path, cluster: &str, fresh: WorkerIdentity) -> Result<WorkerIdentity, DataError> {
    let file = path.join("identity");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = IdentityFile { format: FORMAT, worker: fresh, cluster: cluster.to_string() };
            let damaged =
                |error: serde_json::Error| DataError::Damaged { path: file.clone(), why: error.to_string() };
            durable::write(&file, &serde_json::to_vec_pretty(&identity).map_err(damaged)?)
                .map_err(at(&file))?;
            return Ok(fresh);
        }
        Err(error) => return Err(at(&file)(error)),
    };
    let damaged =
        |error: serde_json::Error| DataError::Damaged { path: file.clone(), why: error.to_string() };
    let FormatOnly { format } = serde_json::from_str(&text).map_err(damaged)?;
    if format > FORMAT {
        return Err(DataError::Newer { path: path.to_path_buf(), found: format });
    }
    let found: IdentityFile = serde_json::from_str(&text).map_err(damaged)?;
    if found.cluster != cluster {
        return Err(DataError::OtherCluster {
            path: path.to_path_buf(),
            found: found.cluster,
            wanted: cluster.to_string(),
        });
    }
    Ok(found.worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_kept_and_a_directory_has_one_owner_one_cluster_and_a_known_format() {
        let temp = tempfile::tempdir().unwrap();
        let open =
            |cluster: &str, fresh| DataDir::open(&temp.path().join("w"), cluster, WorkerIdentity(fresh));
        let first = open("a", 7).unwrap();
        assert_eq!(first.identity(), WorkerIdentity(7));
        let busy = open("a", 8).unwrap_err().to_string();
        assert!(busy.ends_with(&format!("in use by process {}", std::process::id())), "{busy}");
        drop(first);
        assert_eq!(open("a", 8).unwrap().identity(), WorkerIdentity(7));
        assert!(matches!(open("b", 8), Err(DataError::OtherCluster { found, .. }) if found == "a"));
        fs::write(temp.path().join("w/identity"), r#"{"format":2,"else":true}"#).unwrap();
        assert!(matches!(open("a", 8), Err(DataError::Newer { found: 2, .. })));
        fs::write(temp.path().join("w/identity"), "nonsense").unwrap();
        assert!(matches!(open("a", 8), Err(DataError::Damaged { .. })));
    }

    #[test]
    fn a_directory_of_commit_668e260_keeps_its_identity() {
        let old = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/668e260/worker/identity");
        let temp = tempfile::tempdir().unwrap();
        fs::copy(old, temp.path().join("identity")).unwrap();
        let data = DataDir::open(temp.path(), "test", WorkerIdentity(1)).unwrap();
        assert_eq!(data.identity().to_string(), "b49edb55-4f46-48d3-9d7e-b8a3848b1a4d");
    }
}
