//! Reads the text files below some roots: one split of them, in a fixed order, within a budget.

use super::Error;
use super::documents::{Body, Document, Place, Scan, ScanReport};
use super::filters::{self, DropReason, Filters};
use crate::compute::Compute;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// What to read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScanConfig {
    /// Directories to walk.
    pub roots: Vec<PathBuf>,
    /// Endings of the files wanted, without the dot.
    pub extensions: Vec<String>,
    /// What is worth keeping.
    pub filters: Filters,
    /// Of a thousand documents, how many are kept from training.
    pub held_out_per_mille: u32,
    /// Most bytes of text of all splits together; each gets an equal share.
    pub bytes_max: u64,
    /// Draws the order, and with it which documents fit the budget.
    pub seed: u64,
}

/// One part of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Counted from 0.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

/// Reads one split.
///
/// A file's split follows from the hash of its path alone, so all splits together hold each file once, and
/// adding files moves none. Symbolic links are not followed.
///
/// # Errors
/// When a root can't be walked or a file not be read, with its path.
pub fn scan(config: &ScanConfig, split: Split, compute: &Compute) -> Result<Scan, Error> {
    if split.of == 0 || split.index >= split.of {
        return Err(Error::Parameters(format!("split {} of {} is none", split.index, split.of)));
    }
    if config.held_out_per_mille > 1000 {
        return Err(Error::Parameters(format!("{} of a thousand documents can't be held out", config.held_out_per_mille)));
    }
    let mut files = Vec::new();
    for root in &config.roots {
        walk(config, split, root, &mut files)?;
    }
    // The order is drawn from the paths, so that a budget takes an even sample of the files.
    files.sort_by(|a, b| (a.draw, &a.name).cmp(&(b.draw, &b.name)));
    files.dedup_by(|a, b| a.name == b.name && a.path == b.path);

    let budget = config.bytes_max / u64::from(split.of);
    let mut scan = Scan { report: ScanReport { split: split.index, splits: split.of, ..ScanReport::default() }, ..Scan::default() };
    let mut full = false;
    for batch in files.chunks(FILES_PER_BATCH) {
        // Once the budget is used up nothing more is read: the rest is counted only.
        let texts: Vec<_> = if full { Vec::new() } else { compute.run(|| batch.par_iter().map(|file| read(config, file)).collect()) };
        let mut texts = texts.into_iter();
        for file in batch {
            let outcome = match texts.next() {
                Some(outcome) => outcome?,
                None => Outcome::Dropped(DropReason::OverBudget, file.bytes),
            };
            let outcome = match outcome {
                Outcome::Kept(document) if full || scan.report.kept.bytes + document.entry.bytes > budget => {
                    full = true;
                    Outcome::Dropped(DropReason::OverBudget, document.entry.bytes)
                }
                outcome @ (Outcome::Kept(_) | Outcome::Dropped(..)) => outcome,
            };
            scan.count(outcome);
        }
    }
    Ok(scan)
}

/// Files that are in memory at the same time, besides those kept.
const FILES_PER_BATCH: usize = 256;
/// Deeper directories are refused: a tree like that is a loop or a mistake.
const DEPTH_MAX: usize = 64;
/// More files in one split are refused.
const FILES_MAX: usize = 4 * 1024 * 1024;

struct File {
    draw: u64,
    name: String,
    path: PathBuf,
    bytes: u64,
    held_out: bool,
}

enum Outcome {
    Kept(Box<Document>),
    Dropped(DropReason, u64),
}

impl Scan {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Kept(document) => {
                self.report.seen.add(document.entry.bytes);
                self.report.kept.add(document.entry.bytes);
                self.documents.push(*document);
            }
            Outcome::Dropped(reason, bytes) => {
                self.report.seen.add(bytes);
                self.report.dropped.entry(reason).or_default().add(bytes);
            }
        }
    }
}

/// The files of one split below `root`.
fn walk(config: &ScanConfig, split: Split, root: &Path, files: &mut Vec<File>) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    // The place of a root says nothing of its content, so two machines may have it in different places.
    let root_name = root.file_name().map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut open = vec![(root.to_owned(), root_name, 0)];
    while let Some((directory, name, depth)) = open.pop() {
        if depth > DEPTH_MAX {
            return Err(Error::Parameters(format!("{} is more than {DEPTH_MAX} directories deep", directory.display())));
        }
        for entry in fs::read_dir(&directory).map_err(failed(&directory))? {
            let entry = entry.map_err(failed(&directory))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(failed(&path))?;
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                open.push((path, name, depth + 1));
                continue;
            }
            let wanted = path.extension().is_some_and(|ending| config.extensions.iter().any(|wanted| ending == wanted.as_str()));
            if !kind.is_file() || !wanted || draw("split", 0, &name) % u64::from(split.of) != u64::from(split.index) {
                continue;
            }
            if files.len() == FILES_MAX {
                return Err(Error::Parameters(format!("{} has more than {FILES_MAX} files in one split", root.display())));
            }
            let bytes = entry.metadata().map_err(failed(&path))?.len();
            let held_out = draw("held out", config.seed, &without_versions(&name)) % 1000 < u64::from(config.held_out_per_mille);
            files.push(File { draw: draw("order", config.seed, &name), name, path, bytes, held_out });
        }
    }
    Ok(())
}

/// A number drawn from a path, for one purpose.
fn draw(purpose: &str, seed: u64, name: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(purpose.as_bytes()).update(&[0]).update(&seed.to_le_bytes()).update(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// `name` without the versions in its directories' names (`serde-1.0.2/src` gives `serde/src`).
///
/// The same file of two versions is nearly the same text, so both must fall on one side.
fn without_versions(name: &str) -> String {
    let bare = |part: &str| -> String {
        match part.rsplit_once('-') {
            Some((bare, version)) if version.contains('.') && version.starts_with(|c: char| c.is_ascii_digit()) => bare.to_owned(),
            Some(_) | None => part.to_owned(),
        }
    };
    name.split('/').map(bare).collect::<Vec<_>>().join("/")
}

fn read(config: &ScanConfig, file: &File) -> Result<Outcome, Error> {
    let dropped = |reason| Ok(Outcome::Dropped(reason, file.bytes));
    if file.bytes > config.filters.bytes_max {
        return dropped(DropReason::TooLarge);
    }
    let bytes = fs::read(&file.path).map_err(|source| Error::Read { path: file.path.clone(), source })?;
    let Ok(text) = String::from_utf8(bytes) else {
        return dropped(DropReason::NotUtf8);
    };
    let text = normalised(text);
    if let Some(reason) = filters::judge(&text, &config.filters) {
        return dropped(reason);
    }
    Ok(Outcome::Kept(Box::new(Document::new(file.name.clone(), Place::Whole, Body::Text(text), file.held_out))))
}

/// Without a byte order mark, and with `\n` at each line's end.
fn normalised(text: String) -> String {
    if !text.contains('\r') && !text.starts_with('\u{feff}') {
        return text;
    }
    text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n")
}

impl Default for ScanConfig {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            extensions: vec!["rs".to_owned()],
            filters: Filters::default(),
            held_out_per_mille: 30,
            bytes_max: 64 * 1024 * 1024,
            seed: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::documents::Entry;
    use super::*;
    use std::collections::BTreeSet;

    fn compute() -> Compute {
        Compute::new(1).expect("starts")
    }

    fn source(salt: usize) -> String {
        (0..12).map(|i| format!("let value_{salt}_{i} = compute_something({salt}, {i});\n")).collect()
    }

    /// A tree of 40 good files, and one bad of each kind.
    fn tree() -> (tempfile::TempDir, ScanConfig) {
        let home = tempfile::tempdir().expect("makes a directory");
        let root = home.path().join("root");
        fs::create_dir_all(root.join("deep/er")).expect("makes directories");
        for i in 0..40 {
            let place = if i % 3 == 0 { "deep/er" } else { "deep" };
            fs::write(root.join(place).join(format!("file{i}.rs")), source(i)).expect("writes");
        }
        fs::write(root.join("small.rs"), "fn main() {}").expect("writes");
        fs::write(root.join("binary.rs"), [0xff; 300]).expect("writes");
        fs::write(root.join("windows.rs"), format!("\u{feff}{}", source(99).replace('\n', "\r\n"))).expect("writes");
        fs::write(root.join("notes.txt"), source(1)).expect("writes");
        std::os::unix::fs::symlink(root.join("deep"), root.join("link")).expect("links");
        let config = ScanConfig { roots: vec![root], held_out_per_mille: 300, ..ScanConfig::default() };
        (home, config)
    }

    fn entries(config: &ScanConfig, of: u32) -> Vec<Entry> {
        let mut all = Vec::new();
        for index in 0..of {
            let scan = scan(config, Split { index, of }, &compute()).expect("scans");
            let dropped: u64 = scan.report.dropped.values().map(|tally| tally.documents).sum();
            assert_eq!(scan.report.seen.documents, scan.report.kept.documents + dropped);
            all.extend(scan.entries());
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }

    #[test]
    fn splits_hold_each_file_once_however_many_there_are() {
        let (_home, config) = tree();
        let one = entries(&config, 1);
        assert_eq!(one.len(), 41);
        assert!(one.iter().any(|e| e.held_out) && one.iter().any(|e| !e.held_out));
        for of in [2, 3, 7] {
            assert_eq!(entries(&config, of), one, "{of} splits");
        }
    }

    #[test]
    fn what_is_left_out_has_a_reason_and_text_is_normalised() {
        let (_home, config) = tree();
        let scan = scan(&config, Split { index: 0, of: 1 }, &compute()).expect("scans");
        let dropped: Vec<_> = scan.report.dropped.iter().map(|(reason, tally)| (*reason, tally.documents)).collect();
        assert_eq!(dropped, [(DropReason::TooSmall, 1), (DropReason::NotUtf8, 1)]);
        let windows = scan.documents.iter().find(|d| d.entry.path == "root/windows.rs").expect("is kept");
        assert_eq!(windows.body.plain(), source(99));
    }

    #[test]
    fn a_budget_takes_the_same_sample_each_time_and_counts_the_rest() {
        let (_home, mut config) = tree();
        let all = entries(&config, 1).into_iter().map(|e| e.path).collect::<BTreeSet<_>>();
        config.bytes_max = 8 * 1024;
        let small = scan(&config, Split { index: 0, of: 1 }, &compute()).expect("scans");
        let again = scan(&config, Split { index: 0, of: 1 }, &compute()).expect("scans");
        assert_eq!(small, again);
        assert!(small.report.kept.bytes <= 8 * 1024 && small.report.kept.documents > 5);
        assert!(small.documents.iter().all(|d| all.contains(&d.entry.path)));
        assert_eq!(small.report.seen.documents, 43);
    }

    #[test]
    fn bad_parameters_and_missing_roots_are_named() {
        let (_home, config) = tree();
        let refused = |config: &ScanConfig, split| scan(config, split, &compute()).expect_err("refused").to_string();
        assert!(refused(&config, Split { index: 2, of: 2 }).contains("split 2 of 2"));
        let absent = ScanConfig { roots: vec!["/no/such/place".into()], ..config };
        assert!(refused(&absent, Split { index: 0, of: 1 }).contains("/no/such/place"));
    }

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
