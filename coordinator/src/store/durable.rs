//! Files and directories that survive a power cut: written under another name, synced, renamed, and the
//! directory synced too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Syncs the names in a directory.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

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
    fs::rename(unfinished(path), path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Writes a file that either exists with all of `parts`, or not at all.
pub fn write_file(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = File::create(unfinished(path))?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    finish(path)
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
