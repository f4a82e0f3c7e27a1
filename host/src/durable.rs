//! Files that are either wholly there or not there.
//!
//! Written beside their place, synced, renamed, and the directory synced: a reader never sees half a
//! file, and a file that was announced survives a power cut. The cost is two syncs per file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes `bytes` to `path` atomically and durably, replacing what was there.
///
/// # Errors
/// Any failure of the file system; the old file, if any, is then still in place.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let mut staged_name = std::ffi::OsString::from(".staged-");
    staged_name.push(name);
    staged_name.push(format!("-{}", std::process::id()));
    write_through(&path.with_file_name(staged_name), path, &[bytes])
}

/// Writes `parts`, one after the other, to `path` atomically and durably; until it is complete, the file is
/// called `staged`.
///
/// # Errors
/// Any failure of the file system; the old file, if any, is then still in place.
pub fn write_through(staged: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = File::create(staged)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    rename(staged, path)
}

/// Gives what is complete and synced its name, durably. Both names are in the same directory.
///
/// # Errors
/// When it can't be renamed, or the directory can't be synced.
pub fn rename(staged: &Path, path: &Path) -> io::Result<()> {
    fs::rename(staged, path)?;
    sync_parent(path)
}

/// Syncs the names in a directory.
///
/// # Errors
/// When the directory can't be opened or synced.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Syncs the directory that holds `path`, so that a rename in it is durable.
///
/// # Errors
/// When the directory can't be opened or synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_directory(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// The blake3 hash of `bytes` in lowercase hex: what names a file by its content.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
