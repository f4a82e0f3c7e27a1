//! The files that the house rules are checked against: the real tree, or a small fake one in a test.
//!
//! It must know nothing of the rules.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Folders at the root that are not part of the project's own text.
const SKIPPED: &[&str] = &[".git", "shared", "target"];
/// The extensions of the files whose text is read.
const READ: &[&str] = &["md", "rs", "toml"];

/// Paths relative to the root, with `/` between the parts, and the text of those that are read.
#[derive(Default)]
pub struct Tree {
    files: BTreeMap<String, Option<String>>,
}

/// What cargo builds from one root file: each target is a crate of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub package: String,
    /// Whether it is the library, which other crates can use.
    pub is_library: bool,
    /// The root file.
    pub root: String,
}

impl Tree {
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.collect(root, "")?;
        Ok(tree)
    }

    #[cfg(test)]
    pub fn fake(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned())));
        Self { files: files.collect() }
    }

    fn collect(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                if !SKIPPED.contains(&path.as_str()) {
                    self.collect(&entry.path(), &format!("{path}/"))?;
                }
            } else {
                let is_read = name.rsplit_once('.').is_some_and(|(_, extension)| READ.contains(&extension));
                let text = is_read.then(|| fs::read_to_string(entry.path()));
                self.files.insert(path.clone(), text.transpose().with_context(|| format!("read {path}"))?);
            }
        }
        Ok(())
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Paths and texts of all Rust files.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.files.iter().filter(|(path, _)| path.ends_with(".rs"));
        files.filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// Whether `path` is a file or a folder.
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.contains_key(path) || {
            let prefix = format!("{path}/");
            self.files.range(prefix.clone()..).next().is_some_and(|(next, _)| next.starts_with(&prefix))
        }
    }

    /// Every package: its folder, which ends with `/`, and its name.
    fn packages(&self) -> Vec<(String, String)> {
        let manifests = self.files.keys().filter(|path| path.ends_with("/Cargo.toml"));
        let packages = manifests.filter_map(|path| {
            let manifest: toml::Table = self.text(path)?.parse().ok()?;
            let name = manifest.get("package")?.get("name")?.as_str()?;
            Some((path.strip_suffix("Cargo.toml")?.to_owned(), name.to_owned()))
        });
        packages.collect()
    }

    /// Every target of every package, found where cargo looks for them.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for (folder, package) in self.packages() {
            let of = |root: String, is_library| Target { package: package.clone(), is_library, root };
            for (file, is_library) in [("src/lib.rs", true), ("src/main.rs", false)] {
                let root = format!("{folder}{file}");
                targets.extend(self.files.contains_key(&root).then(|| of(root, is_library)));
            }
            for place in ["src/bin/", "examples/", "tests/", "benches/"] {
                let place = format!("{folder}{place}");
                let inside =
                    self.files.range(place.clone()..).map_while(|(path, _)| path.strip_prefix(&place));
                let roots = inside.filter(|rest| match rest.split_once('/') {
                    None => rest.ends_with(".rs"),
                    Some((_, file)) => file == "main.rs",
                });
                targets.extend(roots.map(|rest| of(format!("{place}{rest}"), false)));
            }
        }
        targets.sort();
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_where_cargo_looks() {
        let tree = Tree::fake(&[
            ("Cargo.toml", "[workspace]"),
            ("a/Cargo.toml", "[package]\nname = \"muster-a\""),
            ("a/src/lib.rs", ""),
            ("a/src/other.rs", ""),
            ("a/src/bin/tool.rs", ""),
            ("a/tests/whole/main.rs", ""),
            ("a/tests/whole/part.rs", ""),
        ]);
        let roots: Vec<String> = tree.targets().into_iter().map(|target| target.root).collect();
        assert_eq!(roots, ["a/src/bin/tool.rs", "a/tests/whole/main.rs", "a/src/lib.rs"]);
        assert!(tree.has("a/src") && tree.has("a/src/") && tree.has("a/src/lib.rs") && !tree.has("a/sr"));
    }
}
