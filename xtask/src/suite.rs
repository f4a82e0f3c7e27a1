//! What is run: tests, the simulator, the demo, benches.

use crate::cargo::{self, PROFILE};
use crate::{bench_data, bench_diloco, bench_train, nats, planted};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// The seeds of every run of the tests.
const SEEDS: &str = "0..200";

/// What a run's closing lines add up to.
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

/// Every test, then the simulator, the bugs that it must catch, and the demo; each counts as one more test.
/// The last line is the sum.
pub fn test(with_sim: bool, with_demo: bool, filter: &[String]) -> Result<bool> {
    nats::ensure()?;
    if !cargo::build(PROFILE)? {
        bail!("build the workspace");
    }
    let mut tally = Tally::default();
    let mut command = cargo::cargo(&["test", "--workspace", "--profile", PROFILE, "--no-fail-fast", "--"]);
    command.args(filter).env("MUSTER_BIN", cargo::binary(PROFILE, "muster"));
    let mut child = command.stdout(Stdio::piped()).spawn().context("start cargo test")?;
    for line in BufReader::new(child.stdout.take().context("read what the tests say")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.add(&line);
    }
    // A test program that crashes has no closing line.
    if !child.wait()?.success() && tally.failed == 0 {
        tally.step("cargo test", false);
    }
    if with_sim {
        tally.step(&format!("simulator, seeds {SEEDS}"), sim_once(SEEDS, &[])?);
        let caught = planted::planted().unwrap_or_else(|error| {
            println!("planted: error: {error:#}");
            false
        });
        tally.step("planted bugs", caught);
    }
    if with_demo {
        tally.step("demo", demo_once(&[])?);
    }
    if tally.passed == 0 {
        bail!("run any test at all");
    }
    println!("{} passed, {} failed, {} ignored", tally.passed, tally.failed, tally.ignored);
    Ok(tally.failed == 0)
}

/// Simulated clusters, one per seed.
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

/// The demo, from the binary that the tests ran with.
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

/// Measures.
pub fn bench(name: &str, json: bool, profile: &str, rest: &[String]) -> Result<bool> {
    match name {
        "spine" => bench_spine(json, profile, rest),
        "data" => bench_data::bench(json, profile, rest),
        "train" => bench_train::bench(json, rest),
        "diloco" => bench_diloco::bench(json, rest),
        "collective" => bench_collective(json, profile, rest),
        other => bail!(
            "find a bench named {other:?}: there are `spine`, `data`, `train`, `diloco` and `collective`"
        ),
    }
}

/// The all-reduce against the loopback that it runs on; an example of the worker, so that it is built like
/// it.
fn bench_collective(json: bool, profile: &str, rest: &[String]) -> Result<bool> {
    if !cargo::build(profile)? {
        bail!("build the workspace");
    }
    let mut command = Command::new(cargo::binary(profile, "examples/bench_collective"));
    Ok(cargo::status(command.current_dir(cargo::root()).args(json.then_some("--json")).args(rest))?.success())
}

fn bench_spine(json: bool, profile: &str, rest: &[String]) -> Result<bool> {
    nats::ensure()?;
    // Cargo's own words go to standard error: standard output stays one JSON object.
    if !cargo::build(profile)? {
        bail!("build the workspace");
    }
    let mut command = Command::new(cargo::binary(profile, "bench_spine"));
    command
        .current_dir(cargo::root())
        .env("MUSTER_BIN", cargo::binary(profile, "muster"))
        .args(json.then_some("--json"))
        .args(rest);
    Ok(cargo::status(&mut command)?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut tally = Tally::default();
        tally.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s",
        );
        tally.add("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.17s");
        tally.add("test tests::a ... ok");
        assert_eq!(tally, Tally { passed: 14, failed: 3, ignored: 1 });
    }
}
