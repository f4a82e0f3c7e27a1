//! `cargo xtask test`, `sim` and `demo`: whatever runs the program.

use crate::cargo::{self, PROFILE};
use crate::{nats, planted};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// The simulator's seeds in `cargo xtask test`.
const SEEDS: &str = "0..200";

/// The sum of the result lines of all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    /// Adds `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.trim().strip_prefix("test result:").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.1.split(';') {
            let mut words = count.split_whitespace();
            let (Some(number), Some(what)) = (words.next().and_then(|n| n.parse::<u64>().ok()), words.next())
            else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    fn step(&mut self, name: &str, passed: bool) {
        println!("{name}: {}", if passed { "passed" } else { "FAILED" });
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }
}

/// Runs every test, then the simulator, the planted bugs and the demo, each of which counts as one test. The
/// last line of output is the sum.
pub fn test(with_sim: bool, with_demo: bool, filter: &[String]) -> Result<bool> {
    nats::ensure()?;
    if !cargo::build(PROFILE)? {
        bail!("build the workspace");
    }
    let mut tally = Tally::default();
    let mut command = cargo::cargo(&["test", "--workspace", "--profile", PROFILE, "--no-fail-fast", "--"]);
    command.args(filter).env("MUSTER_BIN", cargo::binary(PROFILE, "muster"));
    let mut child = command.stdout(Stdio::piped()).spawn().context("start cargo test")?;
    for line in BufReader::new(child.stdout.take().context("read the output of the tests")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.add(&line);
    }
    // A test program that crashes prints no result line.
    if !child.wait()?.success() && tally.failed == 0 {
        tally.step("cargo test", false);
    }
    if with_sim {
        tally.step(&format!("simulator, seeds {SEEDS}"), sim_once(SEEDS, &[])?);
        let caught = planted::run().unwrap_or_else(|error| {
            println!("planted: error: {error:#}");
            false
        });
        tally.step("planted bugs", caught);
    }
    if with_demo {
        tally.step("demo", demo_once(&[])?);
    }
    if tally.passed == 0 {
        bail!("run a test: none ran");
    }
    println!("{} passed, {} failed, {} ignored", tally.passed, tally.failed, tally.ignored);
    Ok(tally.failed == 0)
}

pub fn sim(seeds: &str, rest: &[String]) -> Result<bool> {
    if !cargo::build(PROFILE)? {
        bail!("build the workspace");
    }
    sim_once(seeds, rest)
}

fn sim_once(seeds: &str, rest: &[String]) -> Result<bool> {
    let mut command = Command::new(cargo::binary(PROFILE, "sim"));
    Ok(cargo::status(command.current_dir(cargo::root()).args(["--seeds", seeds]).args(rest))?.success())
}

pub fn demo(rest: &[String]) -> Result<bool> {
    if !cargo::build(PROFILE)? {
        bail!("build the workspace");
    }
    demo_once(rest)
}

fn demo_once(rest: &[String]) -> Result<bool> {
    let mut command = Command::new(cargo::binary(PROFILE, "muster"));
    Ok(cargo::status(command.current_dir(cargo::root()).arg("demo").args(rest))?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_add_up() {
        let mut tally = Tally::default();
        tally.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s",
        );
        tally.add("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.17s");
        tally.add("test tests::a ... ok");
        assert_eq!(tally, Tally { passed: 14, failed: 3, ignored: 1 });
    }
}
