//! A worker's data directory: one process at a time, one cluster, a format that this build reads, and the
//! identity that is kept there.

use muster_protocol::ids::WorkerIdentity;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The format of the directory that this build writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file system said no.
    #[error("use the data directory: {path}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another worker has it.
    #[error("use the data directory {path}: it is in use by {by}")]
    InUse {
        /// Which.
        path: PathBuf,
        /// By whom.
        by: String,
    },
    /// A newer build wrote it.
    #[error(
        "use the data directory {path}: it has format {found}, but this build knows formats up to {FORMAT}; use a newer muster"
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It belongs to another cluster.
    #[error("use the data directory {path}: it belongs to a worker of cluster {found}, not of {wanted}")]
    OtherCluster {
        /// Which.
        path: PathBuf,
        /// The cluster it belongs to.
        found: String,
        /// The cluster that was asked for.
        wanted: String,
    },
    /// Its identity file is damaged, or it is no worker's.
    #[error("use the data directory: {path} is not a worker's identity file: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct IdentityFile {
    format: u32,
    worker: WorkerIdentity,
    cluster: String,
}

/// Only the format: whatever else a newer build writes must not hide it.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// An open data directory; it is free for others when this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: WorkerIdentity,
    _lock: File,
}

impl DataDir {
    /// Opens or makes it. `fresh` is the identity that a new one gets.
    pub fn open(path: &Path, cluster: &str, fresh: WorkerIdentity) -> Result<DataDir, DataError> {
        fs::create_dir_all(path).map_err(at(path))?;
        let path = path.canonicalize().map_err(at(path))?;
        let lock = lock(&path)?;
        let identity = identity(&path, cluster, fresh)?;
        let data = DataDir { path, identity, _lock: lock };
        let attempts = data.attempts();
        fs::create_dir_all(&attempts).map_err(at(&attempts))?;
        // Output and parameters of jobs are nobody else's business.
        fs::set_permissions(&attempts, fs::Permissions::from_mode(0o700)).map_err(at(&attempts))?;
        Ok(data)
    }

    /// The worker's identity.
    pub fn identity(&self) -> WorkerIdentity {
        self.identity
    }

    /// Where attempts have their directories.
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
        // Whoever has it wrote its number there; a short read tells less, not wrong.
        let told = lock.read_to_string(&mut by).is_ok() && !by.trim().is_empty();
        let by = if told { format!("process {}", by.trim()) } else { "another process".to_string() };
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
            write_durably(path, &file, &serde_json::to_vec_pretty(&identity).map_err(damaged)?)?;
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

fn write_durably(directory: &Path, file: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let draft = file.with_extension("new");
    let mut out = File::create(&draft).map_err(at(&draft))?;
    out.write_all(bytes).and_then(|()| out.sync_all()).map_err(at(&draft))?;
    fs::rename(&draft, file).map_err(at(file))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
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
}
