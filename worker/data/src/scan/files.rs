//! Which parts of which files one split reads, and in which order.

use super::config::{ScanConfig, Split};
use crate::Error;
use crate::read::{self, FilePart, PartRange};
use std::fs;
use std::path::Path;

/// Deeper directories are refused: they are probably a loop or a mistake.
const DEPTH_MAX: usize = 64;
/// More parts in one split are refused.
const PARTS_MAX: usize = 4 * 1024 * 1024;

/// A part of a file, with the values drawn from the file's name.
#[derive(Debug)]
pub struct ListedPart {
    /// What to read.
    pub part: FilePart,
    /// The name of the file's root, and the path below.
    pub name: String,
    /// Whether the file, if it is one document, is held out.
    pub held_out: bool,
    order: u64,
}

/// Lists the parts of one split in a random order (by seed and name), so that a budget takes an even sample.
///
/// The parts of a file are dealt out round robin, beginning with a split that depends on the file's name
/// alone: the splits together hold each part once, and adding files moves no part. Symbolic links are not
/// followed.
pub fn list(config: &ScanConfig, split: Split) -> Result<Vec<ListedPart>, Error> {
    let mut list = Vec::new();
    for root in &config.roots {
        // Only the last component counts, so two machines may keep a root in different directories.
        let name =
            root.file_name().map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned());
        let metadata = fs::metadata(root).map_err(|source| Error::Read { path: root.clone(), source })?;
        if metadata.is_dir() {
            walk(config, split, root, name, &mut list)?;
        } else {
            add(config, split, root, name, metadata.len(), &mut list)?;
        }
    }
    list.sort_by(|a, b| {
        (a.order, &a.name, &a.part.path, first(a.part.range)).cmp(&(
            b.order,
            &b.name,
            &b.part.path,
            first(b.part.range),
        ))
    });
    list.dedup_by(|a, b| a.part == b.part && a.name == b.name);
    Ok(list)
}

/// The sort key of a part within its file.
fn first(cut: PartRange) -> u64 {
    match cut {
        PartRange::All => 0,
        PartRange::Block { start, .. } => start,
        PartRange::RowGroup(group) => group as u64,
    }
}

fn walk(
    config: &ScanConfig,
    split: Split,
    root: &Path,
    root_name: String,
    list: &mut Vec<ListedPart>,
) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let mut open = vec![(root.to_owned(), root_name, 0)];
    while let Some((directory, name, depth)) = open.pop() {
        if depth > DEPTH_MAX {
            return Err(Error::Parameters(format!(
                "{} is more than {DEPTH_MAX} directories deep",
                directory.display()
            )));
        }
        for entry in fs::read_dir(&directory).map_err(failed(&directory))? {
            let entry = entry.map_err(failed(&directory))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(failed(&path))?;
            let file_name = entry.file_name().to_string_lossy().into_owned();
            let name = format!("{name}/{file_name}");
            let wanted = || {
                read::ending(&file_name)
                    .is_some_and(|ending| config.extensions.iter().any(|wanted| ending == wanted))
            };
            if kind.is_dir() {
                open.push((path, name, depth + 1));
            } else if kind.is_file() && wanted() {
                let bytes = entry.metadata().map_err(failed(&path))?.len();
                add(config, split, &path, name, bytes, list)?;
            }
        }
    }
    Ok(())
}

/// Appends the parts of a file that belong to the split.
fn add(
    config: &ScanConfig,
    split: Split,
    path: &Path,
    name: String,
    bytes: u64,
    list: &mut Vec<ListedPart>,
) -> Result<(), Error> {
    let turn = draw("split", 0, &name) % u64::from(split.of);
    let held_out = is_held_out(config, &without_versions(&name));
    for (part, number) in read::parts(path, bytes, config.format, config.block_bytes)?.into_iter().zip(0u64..)
    {
        if (turn + number) % u64::from(split.of) != u64::from(split.index) {
            continue;
        }
        if list.len() == PARTS_MAX {
            return Err(Error::Parameters(format!(
                "there are more than {PARTS_MAX} parts in one split, at {}",
                path.display()
            )));
        }
        let order = match number {
            0 => draw("order", config.seed, &name),
            number => draw("order", config.seed, &format!("{name}\0{number}")),
        };
        list.push(ListedPart { part, name: name.clone(), held_out, order });
    }
    Ok(())
}

/// Whether the document or file with this name is held out.
pub fn is_held_out(config: &ScanConfig, name: &str) -> bool {
    draw("held out", config.seed, name) % 1000 < u64::from(config.held_out_per_mille)
}

/// A pseudo-random number from a name, independent for each purpose.
fn draw(purpose: &str, seed: u64, name: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(purpose.as_bytes()).update(&[0]).update(&seed.to_le_bytes()).update(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// `name` without the versions in its directories' names (`serde-1.0.2/src` gives `serde/src`).
///
/// Two versions of a file are nearly the same text, so both must be held out or neither.
fn without_versions(name: &str) -> String {
    let bare = |part: &str| -> String {
        match part.rsplit_once('-') {
            Some((bare, version))
                if version.contains('.') && version.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                bare.to_owned()
            }
            Some(_) | None => part.to_owned(),
        }
    };
    name.split('/').map(bare).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_one_file_fall_on_one_side() {
        let table = [
            ("index/serde-1.0.229/src/lib.rs", "index/serde/src/lib.rs"),
            ("index/a-b-0.2.0-rc1/x.rs", "index/a-b-0.2.0-rc1/x.rs"),
            ("index/no-version/x-y.rs", "index/no-version/x-y.rs"),
        ];
        for (name, expected) in table {
            assert_eq!(without_versions(name), expected);
        }
    }
}
