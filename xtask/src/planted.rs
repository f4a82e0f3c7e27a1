//! Bugs that the simulator must catch: `tests/planted/*.patch`, one by one, in a copy of what git tracks.
//!
//! Its one job is to prove that the simulator sees what it is there to see. A patch says in its first lines,
//! each behind `# `, what the bug is, and in the last of them by which invariants it must be caught; any
//! other counts as a failure of the product, not as a proof. It must never touch the working tree, nor what
//! cargo has built from it. The copy and its own target directory are kept between runs: the price is one
//! more build of the simulator's dependencies on a new machine, and of each changed crate per patch.

use crate::cargo::{self, PROFILE};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A bug that is not caught by these is too well hidden.
const SEEDS: &str = "0..400";
/// The line of a patch that says what must catch its bug.
const CAUGHT_BY: &str = "# Caught by:";

/// What a seed breaks that leaves another trace when it is run again.
const DETERMINISM: &str = "determinism";

/// A planted bug.
#[derive(Debug, PartialEq, Eq)]
struct Planted {
    name: String,
    path: PathBuf,
    /// Invariants, any of which may catch it.
    caught_by: Vec<String>,
    /// What it changes.
    files: Vec<PathBuf>,
}

/// Plants every bug in turn, and lets simulated clusters find it. `false`: one was not caught.
pub fn planted() -> Result<bool> {
    let began = Instant::now();
    let place = cargo::target_directory().join("planted");
    let tree = place.join("tree");
    let tracked = copy(&cargo::root(), &tree)?;
    let bugs = patches(&cargo::root().join("tests/planted"))?;
    ensure!(!bugs.is_empty(), "find any patch in tests/planted");
    let mut uncaught = 0;
    for bug in &bugs {
        let caught = plant(bug, &place, &tree);
        // Put back at once, whatever came of it: cargo sees by a file's time that it changed, so it must be
        // later than the build.
        for file in bug.files.iter().filter(|file| tracked.contains(*file)) {
            put(&cargo::root().join(file), &tree.join(file))?;
        }
        match caught {
            Ok(true) => {}
            Ok(false) => uncaught += 1,
            Err(error) => {
                uncaught += 1;
                println!("planted {}: error: {error:#}", bug.name);
            }
        }
    }
    println!(
        "planted: {} of {} bugs caught, in {:.0} s",
        bugs.len() - uncaught,
        bugs.len(),
        began.elapsed().as_secs_f64()
    );
    Ok(uncaught == 0)
}

/// Plants a bug; whether it is caught as it must be.
fn plant(bug: &Planted, place: &Path, tree: &Path) -> Result<bool> {
    let began = Instant::now();
    apply(bug, tree)?;
    let sim = build(place, tree)?;
    let built = Instant::now();
    let (line, right) = run(bug, &sim)?;
    let (build_s, run_s) = ((built - began).as_secs_f64(), built.elapsed().as_secs_f64());
    println!("planted {}: {line} (built in {build_s:.0} s, run in {run_s:.1} s)", bug.name);
    if !right {
        println!("planted {}: NOT CAUGHT by {}", bug.name, bug.caught_by.join(" or "));
    }
    Ok(right)
}

/// Every patch, in the order that changes the fewest crates from one to the next.
fn patches(directory: &Path) -> Result<Vec<Planted>> {
    let mut bugs = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            bugs.push(read(&path, &text)?);
        }
    }
    bugs.sort_by(|one, other| (&one.files, &one.name).cmp(&(&other.files, &other.name)));
    Ok(bugs)
}

fn read(path: &Path, text: &str) -> Result<Planted> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let header = text.lines().take_while(|line| line.starts_with('#'));
    let caught_by = header.filter_map(|line| line.strip_prefix(CAUGHT_BY)).flat_map(|names| names.split(','));
    let caught_by: Vec<String> =
        caught_by.map(|name| name.trim().to_string()).filter(|name| !name.is_empty()).collect();
    ensure!(!caught_by.is_empty(), "{name}: no line {CAUGHT_BY:?} says which invariant is to catch it");
    let files: Vec<PathBuf> =
        text.lines().filter_map(|line| line.strip_prefix("+++ b/")).map(PathBuf::from).collect();
    ensure!(!files.is_empty(), "{name}: it changes nothing");
    Ok(Planted { name, path: path.to_path_buf(), caught_by, files })
}

/// Makes `tree` what git tracks in `root`, as it lies there. Files that are the same already are left alone,
/// and keep their times.
fn copy(root: &Path, tree: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z"])
        .stderr(Stdio::inherit())
        .output()
        .context("start git")?;
    ensure!(listed.status.success(), "list what git tracks in {}", root.display());
    let names = String::from_utf8(listed.stdout).context("read what git tracks")?;
    let tracked = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // What was deleted and not yet committed is tracked still.
    let tracked: BTreeSet<PathBuf> = tracked.filter(|name| root.join(name).is_file()).collect();
    for name in &tracked {
        put(&root.join(name), &tree.join(name))?;
    }
    remove_others(tree, tree, &tracked)?;
    Ok(tracked)
}

fn put(from: &Path, to: &Path) -> Result<()> {
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

fn apply(bug: &Planted, tree: &Path) -> Result<()> {
    let before: Vec<_> = bug.files.iter().map(|file| fs::read(tree.join(file)).ok()).collect();
    // The copy lies within another tree of git, which must not be taken for its own: git would silently apply
    // nothing.
    let ceiling = tree.parent().unwrap_or(tree);
    let mut command = Command::new("git");
    command
        .current_dir(tree)
        .env("GIT_CEILING_DIRECTORIES", ceiling)
        .env_remove("GIT_DIR")
        .arg("apply")
        .arg(&bug.path);
    ensure!(
        cargo::status(&mut command)?.success(),
        "apply {}: make it anew for the present tree",
        bug.path.display()
    );
    for (file, before) in bug.files.iter().zip(before) {
        if fs::read(tree.join(file)).ok() == before {
            bail!("apply {}: {} is what it was", bug.path.display(), file.display());
        }
    }
    Ok(())
}

fn build(place: &Path, tree: &Path) -> Result<PathBuf> {
    let mut command = cargo::cargo(&[
        "build",
        "--quiet",
        "--locked",
        "-p",
        "muster-tests",
        "--bin",
        "sim",
        "--profile",
        PROFILE,
    ]);
    // A planted bug may leave a name unused.
    command
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", place)
        .env("CARGO_INCREMENTAL", "1")
        .env("RUSTFLAGS", "-A warnings");
    ensure!(cargo::status(&mut command)?.success(), "build the simulator");
    Ok(place.join(PROFILE).join("sim"))
}

/// What the simulator says, and whether one of the invariants that must catch the bug does.
fn run(bug: &Planted, sim: &Path) -> Result<(String, bool)> {
    // To run every seed twice takes twice as long; else only the first and the one that catches it are.
    let twice_every = if bug.caught_by.iter().any(|name| name == DETERMINISM) { "1" } else { "1000" };
    let mut command = Command::new(sim);
    command
        .current_dir(cargo::root())
        .args(["--planted", "--twice-every", twice_every, "--seeds", SEEDS])
        .stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("start {}", sim.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().next().unwrap_or("the simulator said nothing");
    let caught = invariant(line).filter(|_| output.status.success());
    let right = caught.is_some_and(|invariant| bug.caught_by.iter().any(|name| name == invariant));
    Ok((line.strip_prefix("planted: ").unwrap_or(line).to_string(), right))
}

/// The invariant in `planted: seed 17: same state: …`.
fn invariant(line: &str) -> Option<&str> {
    line.strip_prefix("planted: seed ")?.split(": ").nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_says_what_must_catch_it() {
        let text = "# A bug.\n# Caught by: same state, no panic\n\ndiff --git a/x/y.rs b/x/y.rs\n--- a/x/y.rs\n+++ b/x/y.rs\n@@ -1 +1 @@\n";
        let bug = read(Path::new("tests/planted/bug.patch"), text).expect("it is whole");
        assert_eq!(
            (bug.name.as_str(), bug.caught_by, bug.files),
            ("bug", vec!["same state".into(), "no panic".into()], vec!["x/y.rs".into()])
        );
        assert!(read(Path::new("bug.patch"), "# A bug.\n\n+++ b/x").is_err(), "nothing is to catch it");
        assert!(read(Path::new("bug.patch"), "# Caught by: x\n").is_err(), "nothing is changed");
    }

    #[test]
    fn a_line_names_the_invariant() {
        assert_eq!(invariant("planted: seed 17: same state: at index 3: x"), Some("same state"));
        assert_eq!(invariant("planted: not caught by seeds 0..400"), None);
    }
}
