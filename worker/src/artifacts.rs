//! Artifacts: bytes kept under their own hash, in an object store that all workers of a cluster reach.
//!
//! What is put is durable when `put` returns, and appears whole or not at all; what is read is hashed again, so that a damaged
//! artifact is refused and never used. The log holds the hashes, never the bytes. Today the store is a directory; another
//! `object_store` may take its place without a change outside this file.

use muster_protocol::ids::Digest;
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path as Key};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::runtime::{Builder, Runtime};

/// The longest artifact.
pub const ARTIFACT_BYTES_MAX: usize = 4 << 30;

/// An artifact could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's directory can't be made or opened.
    #[error("open the artifacts in {dir}: {source}")]
    Open {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such artifact.
    #[error("find artifact {hash}: there is no {path}")]
    Absent {
        /// Which.
        hash: Digest,
        /// Where it should be.
        path: PathBuf,
    },
    /// The bytes under that hash have another hash.
    #[error("trust artifact {hash}: {path} holds {bytes} bytes that hash to {found}")]
    Damaged {
        /// Which.
        hash: Digest,
        /// Where.
        path: PathBuf,
        /// How many bytes there are.
        bytes: usize,
        /// Their hash.
        found: Digest,
    },
    /// The artifact is longer than any may be.
    #[error("keep an artifact of {bytes} bytes: the limit is {ARTIFACT_BYTES_MAX}")]
    TooLarge {
        /// How long it would be.
        bytes: usize,
    },
    /// The store failed.
    #[error("{what} artifact {hash} at {path}: {source}")]
    Store {
        /// `read` or `write`.
        what: &'static str,
        /// Which.
        hash: Digest,
        /// Where.
        path: PathBuf,
        /// Why.
        source: Box<object_store::Error>,
    },
}

/// A store of artifacts. Clones share it. Its calls block, so they are not for asynchronous code.
#[derive(Clone, Debug)]
pub struct Artifacts {
    dir: PathBuf,
    store: Arc<dyn ObjectStore>,
    /// Object stores are asynchronous, attempts are not.
    runtime: Arc<Runtime>,
}

impl Artifacts {
    /// Opens the store in the directory `dir`, and makes the directory if there is none.
    ///
    /// # Errors
    /// When it can't be made or read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let local = LocalFileSystem::new_with_prefix(dir).map_err(|e| failed(io::Error::other(e)))?;
        let runtime = Builder::new_current_thread().build().map_err(failed)?;
        Ok(Artifacts { dir: dir.to_owned(), store: Arc::new(local.with_fsync(true)), runtime: Arc::new(runtime) })
    }

    /// Keeps `bytes`, and gives their hash. To put the same bytes again changes nothing.
    ///
    /// # Errors
    /// When the store fails, or the bytes are over the limit.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        if bytes.len() > ARTIFACT_BYTES_MAX {
            return Err(Error::TooLarge { bytes: bytes.len() });
        }
        let hash = Digest::of(bytes);
        // A damaged artifact is healed by whoever makes the same bytes again.
        if self.get(hash).is_ok() {
            return Ok(hash);
        }
        let payload = bytes::Bytes::copy_from_slice(bytes).into();
        match self.runtime.block_on(self.store.put(&key(hash), payload)) {
            Ok(_) => Ok(hash),
            Err(source) => Err(Error::Store { what: "write", hash, path: self.path(hash), source: source.into() }),
        }
    }

    /// The bytes under `hash`, verified.
    ///
    /// # Errors
    /// When there are none, they are damaged, or the store fails.
    pub fn get(&self, hash: Digest) -> Result<Vec<u8>, Error> {
        let read = self.runtime.block_on(async { self.store.get(&key(hash)).await?.bytes().await });
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => return Err(Error::Absent { hash, path: self.path(hash) }),
            Err(source) => return Err(Error::Store { what: "read", hash, path: self.path(hash), source: source.into() }),
        };
        let found = Digest::of(&bytes);
        if found == hash { Ok(bytes.into()) } else { Err(Error::Damaged { hash, path: self.path(hash), bytes: bytes.len(), found }) }
    }

    /// Where the artifact `hash` is kept, for messages.
    pub fn path(&self, hash: Digest) -> PathBuf {
        self.dir.join(key(hash).as_ref())
    }
}

/// `blake3/ab/cdef…`: two levels, so that no directory grows without end.
fn key(hash: Digest) -> Key {
    let text = hash.to_string();
    let (algorithm, hex) = text.split_once(':').unwrap_or(("blake3", &text));
    Key::from(format!("{algorithm}/{}/{}", &hex[..2], &hex[2..]))
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
    fn an_absent_artifact_is_named_with_its_hash_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(dir.path()).unwrap();
        let hash = Digest::of(b"never put");
        let message = artifacts.get(hash).unwrap_err().to_string();
        assert!(message.contains(&hash.to_string()) && message.contains(&dir.path().display().to_string()), "{message}");
    }

    #[test]
    fn a_damaged_artifact_is_refused_and_healed_by_the_next_put() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(dir.path()).unwrap();
        let hash = artifacts.put(b"weights").unwrap();
        fs::write(artifacts.path(hash), b"weighty").unwrap();
        let message = artifacts.get(hash).unwrap_err().to_string();
        assert!(message.contains("7 bytes that hash to") && message.contains(&artifacts.path(hash).display().to_string()), "{message}");
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
