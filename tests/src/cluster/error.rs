//! Why a cluster did not start.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, a port or a process of the harness itself.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("cannot build the binary muster, which the tests run")]
    Build,
}

impl Error {
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        |source| Error::Io { what: what.into(), source }
    }
}
