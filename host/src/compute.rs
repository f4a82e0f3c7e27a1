//! A pool of threads sized by what the caller was granted.
//!
//! Several workers share a machine, so nothing here may fall back to a pool as wide as the machine:
//! every heavy call goes through [`Compute::run`]. Results depend on the thread count only where gemm
//! does, which is why the count is recorded with a checkpoint.

use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::Arc;

/// The failure to start a pool's threads.
#[derive(Debug, thiserror::Error)]
#[error("start {threads} compute threads: {source}")]
pub struct Error {
    threads: usize,
    source: rayon::ThreadPoolBuildError,
}

/// A handle on one pool; clones share it.
#[derive(Clone)]
pub struct Compute {
    pool: Arc<ThreadPool>,
}

impl Compute {
    /// Starts a pool of `threads` threads (at least one).
    ///
    /// # Errors
    /// When the system refuses to start the threads.
    pub fn new(threads: usize) -> Result<Self, Error> {
        let threads = threads.max(1);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("compute-{index}"))
            .build()
            .map_err(|source| Error { threads, source })?;
        Ok(Self { pool: Arc::new(pool) })
    }

    /// Runs `work` so that all parallel work inside it stays on this pool.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// The number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }
}
