//! Bugs that the simulator must catch: each `tests/planted/*.patch`, applied to a copy of the tree.
//!
//! Its one job is to prove that the simulator catches what it is there to catch. The first lines of a patch
//! begin with `# `: they describe the bug, and the last of them names the invariants that may catch it. If
//! another invariant fails, that is a bug of the product and not a proof. This must never change the working
//! tree or what cargo has built from it. The copy borrows the dependencies of the main build, so the cost is
//! one build of the simulator's own crates, and of the changed crates per patch.

mod dependencies;
mod tree;

use crate::cargo::{self, PROFILE};
use crate::packages;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// One of these seeds must catch each bug.
const SEEDS: &str = "0..400";
/// The line of a patch that names the invariants which may catch its bug.
const CAUGHT_BY: &str = "# Caught by:";

/// The invariant that fails if a second run of a seed leaves another trace.
const DETERMINISM: &str = "determinism";

/// A planted bug.
#[derive(Debug, PartialEq, Eq)]
struct Planted {
    name: String,
    path: PathBuf,
    /// Invariants, any of which may catch it.
    caught_by: Vec<String>,
    /// The files that it changes.
    files: Vec<PathBuf>,
}

/// Plants every bug in turn and runs simulated clusters. Returns `false` if one was not caught.
pub fn run() -> Result<bool> {
    let began = Instant::now();
    let place = cargo::target_directory().join("planted");
    let tree = place.join("tree");
    let tracked = tree::copy(&cargo::root(), &tree)?;
    dependencies::borrow(
        &cargo::target_directory().join(PROFILE),
        &place.join(PROFILE),
        &packages::resolved()?,
    )?;
    let bugs = patches(&cargo::root().join("tests/planted"))?;
    ensure!(!bugs.is_empty(), "find a patch in tests/planted");
    let mut uncaught = 0;
    for bug in &bugs {
        let caught = plant(bug, &place, &tree);
        // Restored at once, even after an error. Cargo notices a change by a file's time, which must be later
        // than the build.
        for file in bug.files.iter().filter(|file| tracked.contains(*file)) {
            tree::put(&cargo::root().join(file), &tree.join(file))?;
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

/// Plants a bug and returns whether one of its invariants caught it.
fn plant(bug: &Planted, place: &Path, tree: &Path) -> Result<bool> {
    let began = Instant::now();
    apply(bug, tree)?;
    let sim = build(place, tree)?;
    let built = Instant::now();
    let (line, right) = simulate(bug, &sim)?;
    let (build_s, run_s) = ((built - began).as_secs_f64(), built.elapsed().as_secs_f64());
    println!("planted {}: {line} (built in {build_s:.0} s, run in {run_s:.1} s)", bug.name);
    if !right {
        println!("planted {}: NOT CAUGHT by {}", bug.name, bug.caught_by.join(" or "));
    }
    Ok(right)
}

/// Every patch, ordered so that few crates change from one to the next.
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

fn apply(bug: &Planted, tree: &Path) -> Result<()> {
    let before: Vec<_> = bug.files.iter().map(|file| fs::read(tree.join(file)).ok()).collect();
    // The copy lies within the main repository. If git found that one, it would silently apply nothing.
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
        "apply {}: the patch must be made again for this tree",
        bug.path.display()
    );
    for (file, before) in bug.files.iter().zip(before) {
        if fs::read(tree.join(file)).ok() == before {
            bail!("apply {}: {} did not change", bug.path.display(), file.display());
        }
    }
    Ok(())
}

fn build(place: &Path, tree: &Path) -> Result<PathBuf> {
    // With `--workspace` the features of dependencies unify as in the main build.
    let arguments = [
        "build",
        "--quiet",
        "--locked",
        "--workspace",
        "--bin",
        "sim",
        "--profile",
        PROFILE,
        "--message-format",
        "json-render-diagnostics",
    ];
    let mut command = cargo::cargo(&arguments);
    command.current_dir(tree).env("CARGO_TARGET_DIR", place).env("CARGO_INCREMENTAL", "1");
    let output = command.output().context("start cargo")?;
    // Warnings are not shown: a planted bug may leave a name unused.
    ensure!(
        output.status.success(),
        "build the simulator:\n{}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    let compiled = compiled_dependencies(&String::from_utf8_lossy(&output.stdout));
    if !compiled.is_empty() {
        println!("planted: compiled {} dependencies again: {}", compiled.len(), compiled.join(", "));
    }
    Ok(place.join(PROFILE).join("sim"))
}

/// The registry's packages that cargo's messages report as compiled.
fn compiled_dependencies(messages: &str) -> Vec<String> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let compiled = messages.filter(|message| message["fresh"] == Value::Bool(false));
    let packages = compiled.filter_map(|message| message["package_id"].as_str().map(str::to_owned));
    packages.filter(|package| package.starts_with("registry+")).collect()
}

/// The simulator's first line, and whether it names one of the invariants that may catch the bug.
fn simulate(bug: &Planted, sim: &Path) -> Result<(String, bool)> {
    // Running every seed twice takes twice as long, and only determinism needs it.
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
    fn compiled_dependencies_are_named() {
        let line = |package: &str, fresh| {
            format!("{{\"reason\":\"compiler-artifact\",\"package_id\":\"{package}\",\"fresh\":{fresh}}}\n")
        };
        let registry = "registry+https://example.org/index#";
        let messages = [
            line("path+file:///tree/protocol#muster-protocol@0.1.0", false),
            line(&format!("{registry}fresh@1.0.0"), true),
            line(&format!("{registry}stale@1.0.0"), false),
            "{\"reason\":\"build-finished\",\"success\":true}\n".to_owned(),
        ];
        assert_eq!(compiled_dependencies(&messages.concat()), [format!("{registry}stale@1.0.0")]);
    }

    #[test]
    fn a_line_names_the_invariant() {
        assert_eq!(invariant("planted: seed 17: same state: at index 3: x"), Some("same state"));
        assert_eq!(invariant("planted: not caught by seeds 0..400"), None);
    }
}
