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
    let staged = path.with_file_name(staged_name);
    let mut file = File::create(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    sync_parent(path)
}

/// Syncs the directory that holds `path`, so that a rename in it is durable.
///
/// # Errors
/// When the directory can't be opened or synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) | None => File::open(".")?.sync_all(),
    }
}

/// The blake3 hash of `bytes` in lowercase hex: how every file of this library is named by content.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
