//! A copy of the working tree, which bugs are planted in.
//!
//! It must never write to the working tree itself.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Makes `tree` a copy of what git tracks in `root`, with uncommitted changes. Equal files are left alone and
/// keep their times.
pub fn copy(root: &Path, tree: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z"])
        .stderr(Stdio::inherit())
        .output()
        .context("start git")?;
    ensure!(listed.status.success(), "list what git tracks in {}", root.display());
    let names = String::from_utf8(listed.stdout).context("read what git tracks")?;
    let tracked = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // A file that was deleted but not committed is still tracked.
    let tracked: BTreeSet<PathBuf> = tracked.filter(|name| root.join(name).is_file()).collect();
    for name in &tracked {
        put(&root.join(name), &tree.join(name))?;
    }
    remove_others(tree, tree, &tracked)?;
    Ok(tracked)
}

pub fn put(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    fs::write(to, bytes).with_context(|| format!("write {}", to.display()))
}

fn remove_others(tree: &Path, directory: &Path, tracked: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(tree, &path, tracked)?;
        } else if !path.strip_prefix(tree).is_ok_and(|name| tracked.contains(name)) {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}
