//! Directories of ended attempts: their output is kept for a while, the oldest are removed.

use super::environment::AttemptPaths;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

/// At most this many directories are kept.
const ENDED_KEPT: usize = 1_000;

/// The directories of ended attempts, the oldest first.
#[derive(Debug)]
pub(super) struct EndedAttempts {
    directories: Mutex<VecDeque<PathBuf>>,
}

impl EndedAttempts {
    /// Finds what earlier incarnations of this worker left in the directory of attempts.
    pub(super) fn find(attempts: &Path) -> io::Result<EndedAttempts> {
        let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(attempts)? {
            let entry = entry?;
            remove(&entry.path().join("scratch"));
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
        found.sort();
        let directories = found.into_iter().map(|(_, path)| path).collect();
        Ok(EndedAttempts { directories: Mutex::new(directories) })
    }

    /// An attempt is about to use these paths.
    pub(super) fn reuse(&self, paths: &AttemptPaths) {
        self.lock().retain(|directory| *directory != paths.directory);
    }

    /// Keeps an ended attempt's output, and nothing else of it; removes the oldest directories.
    pub(super) async fn retire(&self, paths: &AttemptPaths) {
        let surplus = {
            let mut directories = self.lock();
            directories.push_back(paths.directory.clone());
            let surplus = directories.len().saturating_sub(ENDED_KEPT);
            directories.drain(..surplus).collect::<Vec<_>>()
        };
        let paths = paths.clone();
        let clean = move || {
            // An attempt that could not be prepared has neither.
            let _ = fs::remove_file(&paths.socket);
            let _ = fs::remove_file(&paths.launch);
            remove(&paths.scratch);
            surplus.iter().for_each(|directory| remove(directory));
        };
        if let Err(error) = tokio::task::spawn_blocking(clean).await {
            tracing::warn!(%error, "cannot clean up after an attempt");
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<PathBuf>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(directory: &Path) {
    match fs::remove_dir_all(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(%error, directory = %directory.display(), "cannot remove an attempt's files")
        }
    }
}
