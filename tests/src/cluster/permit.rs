//! One cluster at a time on this machine: a file lock, which the system releases however its holder ends.

use super::error::Error;
use std::env;
use std::fs::File;

/// Allows one cluster to run, until it is dropped.
pub struct Permit {
    _file: File,
}

impl Permit {
    /// Waits until no other test runs a cluster.
    pub fn take() -> Result<Permit, Error> {
        let path = env::temp_dir().join("muster-one-cluster.lock");
        let what = || format!("lock {}", path.display());
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io(what()))?;
        file.lock().map_err(Error::io(what()))?;
        Ok(Permit { _file: file })
    }
}
