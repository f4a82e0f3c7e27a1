//! Lends the dependencies of the main build to the build of the copy, so that only our own crates are
//! compiled.
//!
//! Cargo finds a compiled crate in its target folder by a hash that does not depend on where the workspace
//! lies. So the copy's folder gets the files of registry crates: hard links to libraries, which compilers
//! replace as a whole, and copies of the small files that cargo rewrites in place. Our own crates have the
//! same names and hashes in both folders; they are left out, so that nothing of the main build is
//! overwritten.

use crate::packages::Package;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The extensions of files that are never written in place.
const LINKED: &[&str] = &["rlib", "rmeta", "so"];

/// Adds to the profile folder `copy` what it lacks of the dependencies in the profile folder `main`.
pub fn borrow(main: &Path, copy: &Path, packages: &[Package]) -> Result<()> {
    let own = packages.iter().filter(|package| package.source.is_none());
    let own: BTreeSet<String> = own
        .flat_map(|package| package.targets.iter().chain([&package.name]))
        .map(|name| name.replace('-', "_"))
        .collect();
    for folder in [".fingerprint", "build", "deps"] {
        let (from, to) = (main.join(folder), copy.join(folder));
        fs::create_dir_all(&to).with_context(|| format!("make {}", to.display()))?;
        for entry in fs::read_dir(&from).with_context(|| format!("list {}", from.display()))? {
            let name = entry?.file_name();
            if !own.contains(&crate_name(&name.to_string_lossy())) {
                add(&from.join(&name), &to.join(&name))?;
            }
        }
    }
    Ok(())
}

/// The crate that a file or folder belongs to: `serde_core` for `libserde_core-0123456789abcdef.rlib`.
fn crate_name(file: &str) -> String {
    let stem = file.split('.').next().unwrap_or(file);
    let name = stem.rsplit_once('-').map_or(stem, |(name, _)| name);
    let is_library = file.contains('.') && !file.ends_with(".d");
    let name = if is_library { name.strip_prefix("lib").unwrap_or(name) } else { name };
    name.replace('-', "_")
}

fn add(from: &Path, to: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(from).with_context(|| format!("read {}", from.display()))?;
    if metadata.is_dir() {
        fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
        for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
            let name = entry?.file_name();
            add(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    let modified = metadata.modified()?;
    if fs::metadata(to).and_then(|there| there.modified()).is_ok_and(|there| there == modified) {
        return Ok(());
    }
    let failed = || format!("lend {} to {}", from.display(), to.display());
    match fs::remove_file(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(failed),
        _ => {}
    }
    if from.extension().is_some_and(|extension| LINKED.iter().any(|linked| extension == *linked)) {
        return fs::hard_link(from, to).with_context(failed);
    }
    fs::copy(from, to).with_context(failed)?;
    // Cargo compares times to see what is stale.
    fs::File::open(to)?.set_modified(modified).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_tell_their_crate() {
        assert_eq!(crate_name("libserde_core-0123456789abcdef.rlib"), "serde_core");
        assert_eq!(crate_name("libc-0123456789abcdef.d"), "libc");
        assert_eq!(crate_name("liblibc-0123456789abcdef.rmeta"), "libc");
        assert_eq!(crate_name("muster-tests-0123456789abcdef"), "muster_tests");
        assert_eq!(crate_name("sim-0123456789abcdef"), "sim");
    }
}
