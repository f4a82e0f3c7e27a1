//! Artifacts: bytes stored under their own hash, in an object store that all workers of a cluster share.
//!
//! An artifact is durable when `put` returns, and appears whole or not at all. Reading hashes the bytes
//! again, so a damaged artifact is never used. The log holds the hashes, never the bytes. The store is a
//! directory; another `object_store` could replace it without a change outside this file.

use muster_protocol::ids::{Digest, JobId};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};
use tokio::runtime::{Builder, Runtime};

/// The largest artifact.
pub const ARTIFACT_BYTES_MAX: usize = 4 << 30;

/// A job's own directory, beside the artifacts in `dir` (`MUSTER_JOB_DIR`): all its tasks share it, on every
/// worker. Relative paths in parameters are relative to it. The first task that needs it creates it; nothing
/// removes it.
pub fn job_dir(dir: &Path, cluster: &str, job: JobId) -> PathBuf {
    dir.join("jobs").join(cluster).join(job.to_string())
}

/// Why an artifact could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's directory can't be created or opened.
    #[error("open the artifacts in {dir}: {source}")]
    Open {
        /// The directory.
        dir: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// There is no such artifact.
    #[error("find artifact {hash}: there is no {path}")]
    Absent {
        /// The artifact.
        hash: Digest,
        /// Where it should be.
        path: PathBuf,
    },
    /// The bytes under that hash have another hash.
    #[error("trust artifact {hash}: {path} holds {bytes} bytes that hash to {found}")]
    Damaged {
        /// The artifact.
        hash: Digest,
        /// Its file.
        path: PathBuf,
        /// How many bytes there are.
        bytes: usize,
        /// Their hash.
        found: Digest,
    },
    /// The artifact is over [`ARTIFACT_BYTES_MAX`].
    #[error("keep an artifact of {bytes} bytes: the limit is {ARTIFACT_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The store is full.
    #[error(
        "keep artifact {hash} of {bytes} bytes: the store {dir} is full, {free} bytes are free ({source}); what is in it stays"
    )]
    Full {
        /// The artifact.
        hash: Digest,
        /// Its size.
        bytes: usize,
        /// The store.
        dir: PathBuf,
        /// Free bytes.
        free: u64,
        /// The error of the store.
        source: Box<object_store::Error>,
    },
    /// The store failed.
    #[error("{what} artifact {hash} at {path}: {source}")]
    Store {
        /// `read`, `write` and the like.
        what: &'static str,
        /// The artifact.
        hash: Digest,
        /// Its file.
        path: PathBuf,
        /// The error of the store.
        source: Box<object_store::Error>,
    },
}

/// A store of artifacts; clones share it. Its methods block: don't call them from async code.
#[derive(Clone, Debug)]
pub struct Artifacts {
    dir: PathBuf,
    store: Arc<dyn ObjectStore>,
    /// Object stores are asynchronous, attempts are not.
    runtime: Arc<Runtime>,
}

impl Artifacts {
    /// Opens the store in the directory `dir`, and creates the directory if necessary.
    ///
    /// # Errors
    /// If the directory can't be created or read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let local = LocalFileSystem::new_with_prefix(dir).map_err(|e| failed(io::Error::other(e)))?;
        let runtime = Builder::new_current_thread().build().map_err(failed)?;
        Ok(Artifacts {
            dir: dir.to_owned(),
            store: Arc::new(local.with_fsync(true)),
            runtime: Arc::new(runtime),
        })
    }

    /// Stores `bytes`, and returns their hash. Storing the same bytes again changes nothing.
    ///
    /// # Errors
    /// If the store fails, or the bytes are over the limit.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        if bytes.len() > ARTIFACT_BYTES_MAX {
            return Err(Error::TooLarge { bytes: bytes.len() });
        }
        let hash = Digest::of(bytes);
        // A damaged artifact is replaced.
        if self.get(hash).is_ok() {
            return Ok(hash);
        }
        let payload = bytes::Bytes::copy_from_slice(bytes).into();
        match self.runtime.block_on(self.store.put(&key(hash), payload)) {
            Ok(_) => Ok(hash),
            Err(source) if is_full(&source) => Err(self.full(hash, bytes.len(), source)),
            Err(source) => {
                Err(Error::Store { what: "write", hash, path: self.path(hash), source: source.into() })
            }
        }
    }

    fn full(&self, hash: Digest, bytes: usize, source: object_store::Error) -> Error {
        let free =
            rustix::fs::statvfs(&self.dir).map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize));
        Error::Full { hash, bytes, dir: self.dir.clone(), free, source: source.into() }
    }

    /// The bytes under `hash`, verified.
    ///
    /// # Errors
    /// If there is no such artifact, it is damaged, or the store fails.
    pub fn get(&self, hash: Digest) -> Result<Vec<u8>, Error> {
        let read = self.runtime.block_on(async { self.store.get(&key(hash)).await?.bytes().await });
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(Error::Absent { hash, path: self.path(hash) });
            }
            Err(source) => {
                return Err(Error::Store {
                    what: "read",
                    hash,
                    path: self.path(hash),
                    source: source.into(),
                });
            }
        };
        let found = Digest::of(&bytes);
        if found == hash {
            Ok(bytes.into())
        } else {
            Err(Error::Damaged { hash, path: self.path(hash), bytes: bytes.len(), found })
        }
    }

    /// Keeps the artifact `hash`, which may not exist yet, until `owner` unpins it. An owner is a name
    /// without `/`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn pin(&self, hash: Digest, owner: &str) -> Result<(), Error> {
        let put = self.runtime.block_on(self.store.put(&pins(hash).join(owner), bytes::Bytes::new().into()));
        put.map(drop).map_err(|source| {
            if is_full(&source) { self.full(hash, 0, source) } else { self.failed("pin", hash, source) }
        })
    }

    /// Removes an artifact unless it is pinned. The caller knows that nobody will pin it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn discard(&self, hash: Digest) -> Result<(), Error> {
        self.runtime.block_on(async {
            if self.pinned(hash).await? {
                return Ok(());
            }
            match self.store.delete(&key(hash)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(source) => Err(self.failed("remove", hash, source)),
            }
        })
    }

    /// Removes an owner's pin, and the artifact with its last pin. An artifact that was never pinned stays.
    ///
    /// # Errors
    /// If the store fails.
    pub fn unpin(&self, hash: Digest, owner: &str) -> Result<(), Error> {
        let bytes = match self.get(hash) {
            Ok(bytes) => Some(bytes),
            Err(Error::Absent { .. } | Error::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        self.runtime.block_on(async {
            match self.store.delete(&pins(hash).join(owner)).await {
                Ok(()) => {}
                Err(object_store::Error::NotFound { .. }) => return Ok(()),
                Err(source) => return Err(self.failed("unpin", hash, source)),
            }
            if self.pinned(hash).await? {
                return Ok(());
            }
            match self.store.delete(&key(hash)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.failed("remove", hash, source)),
            }
            // Another owner may have pinned it, and found it there, between the check and the removal.
            if let (Some(bytes), true) = (bytes, self.pinned(hash).await?) {
                let put = self.store.put(&key(hash), bytes::Bytes::from(bytes).into()).await;
                put.map_err(|source| self.failed("write", hash, source))?;
            }
            Ok(())
        })
    }

    async fn pinned(&self, hash: Digest) -> Result<bool, Error> {
        let listed = self.store.list_with_delimiter(Some(&pins(hash))).await;
        listed
            .map(|found| !found.objects.is_empty())
            .map_err(|source| self.failed("list the pins of", hash, source))
    }

    fn failed(&self, what: &'static str, hash: Digest, source: object_store::Error) -> Error {
        Error::Store { what, hash, path: self.path(hash), source: source.into() }
    }

    /// The file of the artifact `hash`, for messages.
    pub fn path(&self, hash: Digest) -> PathBuf {
        self.dir.join(key(hash).as_ref())
    }
}

/// Whether the file system is full, or a quota is used up.
fn is_full(error: &object_store::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kind = error.kind();
            return kind == io::ErrorKind::StorageFull
                || kind == io::ErrorKind::QuotaExceeded
                || kind == io::ErrorKind::FileTooLarge;
        }
        next = error.source();
    }
    false
}

/// `blake3/ab/cdef…`: two levels, so that no directory gets too large.
fn key(hash: Digest) -> Key {
    let text = hash.to_string();
    let (algorithm, hex) = text.split_once(':').unwrap_or(("blake3", &text));
    Key::from(format!("{algorithm}/{}/{}", &hex[..2], &hex[2..]))
}

/// `pins/ab/cdef…`: below it, each owner has an empty object.
fn pins(hash: Digest) -> Key {
    Key::from(format!("pins/{}", key(hash).as_ref().split_once('/').map_or("", |(_, rest)| rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_can_be_read_under_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(&dir.path().join("made/on/the/way")).unwrap();
        for bytes in [&b""[..], b"a", &[7; 100_000]] {
            let hash = artifacts.put(bytes).unwrap();
            assert_eq!(hash, Digest::of(bytes));
            assert_eq!(artifacts.put(bytes).unwrap(), hash);
            assert_eq!(Artifacts::open(&artifacts.dir).unwrap().get(hash).unwrap(), bytes);
        }
    }

    #[test]
    fn an_artifact_goes_with_its_last_pin() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(dir.path()).unwrap();
        let hash = Digest::of(b"moments");
        for owner in ["job-1.4", "job-2.4"] {
            artifacts.pin(hash, owner).unwrap();
            artifacts.put(b"moments").unwrap();
        }
        artifacts.unpin(hash, "job-1.4").unwrap();
        assert_eq!(artifacts.get(hash).unwrap(), b"moments");
        // Unpinning without a pin changes nothing.
        artifacts.unpin(hash, "job-1.4").unwrap();
        artifacts.unpin(hash, "job-3.4").unwrap();
        assert_eq!(artifacts.get(hash).unwrap(), b"moments");
        artifacts.unpin(hash, "job-2.4").unwrap();
        assert!(artifacts.get(hash).is_err());
        let kept = artifacts.put(b"data").unwrap();
        artifacts.unpin(kept, "job-1.4").unwrap();
        assert_eq!(artifacts.get(kept).unwrap(), b"data");
        artifacts.pin(kept, "job-1.4").unwrap();
        artifacts.discard(kept).unwrap();
        assert_eq!(artifacts.get(kept).unwrap(), b"data", "somebody needs it");
        let loose = artifacts.put(b"late").unwrap();
        artifacts.discard(loose).unwrap();
        assert!(artifacts.get(loose).is_err());
        artifacts.discard(loose).unwrap();
    }

    #[test]
    fn an_absent_artifact_is_named_with_its_hash_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(dir.path()).unwrap();
        let hash = Digest::of(b"never put");
        let message = artifacts.get(hash).unwrap_err().to_string();
        assert!(
            message.contains(&hash.to_string()) && message.contains(&dir.path().display().to_string()),
            "{message}"
        );
    }

    #[test]
    fn a_damaged_artifact_is_refused_and_healed_by_the_next_put() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(dir.path()).unwrap();
        let hash = artifacts.put(b"weights").unwrap();
        fs::write(artifacts.path(hash), b"weighty").unwrap();
        let message = artifacts.get(hash).unwrap_err().to_string();
        assert!(
            message.contains("7 bytes that hash to")
                && message.contains(&artifacts.path(hash).display().to_string()),
            "{message}"
        );
        assert_eq!(artifacts.put(b"weights").unwrap(), hash);
        assert_eq!(artifacts.get(hash).unwrap(), b"weights");
    }

    #[test]
    fn a_place_that_cannot_be_a_directory_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = Artifacts::open(file.path()).unwrap_err().to_string();
        assert!(message.contains(&file.path().display().to_string()), "{message}");
    }
}
