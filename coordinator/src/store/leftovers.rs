//! What a crash may leave in the store: files and directories under the names that they have until they are
//! complete, or while they are removed.

use muster_host::durable;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name of a file or directory until it is complete.
pub fn unfinished(path: &Path) -> PathBuf {
    with_suffix(path, "new")
}

/// The name of a directory that is being removed.
pub fn discarded(path: &Path) -> PathBuf {
    with_suffix(path, "old")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether a name is of something unfinished or being removed.
pub fn is_leftover(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "new" || extension == "old")
}

/// Gives something complete its final name.
pub fn finish(path: &Path) -> io::Result<()> {
    durable::rename(&unfinished(path), path)
}

/// Writes a file that either exists with all of `parts`, or not at all.
pub fn write_file(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    durable::write_through(&unfinished(path), path, parts)
}

/// Removes a directory that may be large. Its name is free at once.
pub fn remove_directory(path: &Path) -> io::Result<()> {
    let old = discarded(path);
    fs::rename(path, &old)?;
    fs::remove_dir_all(&old)
}

/// Removes what an earlier process left unfinished in `dir`.
pub fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let path = item?.path();
        if is_leftover(&path) {
            if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
    }
    Ok(())
}
