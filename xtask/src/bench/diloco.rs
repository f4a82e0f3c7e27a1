//! `cargo xtask bench diloco`: held-out loss of DiLoCo's rounds against synchronous training on the same
//! samples.
//!
//! The bench itself is an example of `worker/llm`, so that it measures the library as a user would build it.
//! Speed does not matter: the same build on the same kind of processor gives the same numbers.

use crate::cargo::{self, ENGINE_PACKAGES, PROFILE};
use anyhow::{Result, bail};
use serde_json::Value;
use std::fmt::Write as _;
use std::process::Command;

const EXAMPLE: &str = "bench_diloco";
/// Runs, the run that each is compared with, and by how many percent its loss may be higher: the measured
/// value and some margin for other text.
const LIMITS: [(&str, &str, f64); 4] = [
    ("h10_int8", "sync", 2.5),
    ("h25_int8", "sync", 6.5),
    ("h10_int8", "h10_f32", 0.1),
    ("h10_int8_dropped", "h10_int8", 1.0),
];

/// With `json`, standard output is one JSON object.
pub fn bench(json: bool, rest: &[String]) -> Result<bool> {
    let mut command = cargo::cargo(&["build", "--profile", PROFILE]);
    if !cargo::status(command.args(ENGINE_PACKAGES).args(["--example", EXAMPLE]))?.success() {
        bail!("build the bench");
    }
    let found = cargo::json_of(
        Command::new(cargo::target_directory().join(PROFILE).join("examples").join(EXAMPLE)).args(rest),
    )?;
    if json {
        println!("{found}");
    } else {
        print!("{}", table(&found));
    }
    let over = over_limit(&found);
    over.iter().for_each(|line| eprintln!("{line}"));
    Ok(over.is_empty())
}

/// Runs over their limit. Runs that were not made are skipped.
fn over_limit(found: &Value) -> Vec<String> {
    let loss = |name: &str| found["runs"][name]["loss"].as_f64();
    let check = |(name, other, most): (&str, &str, f64)| {
        let percent = (loss(name)? / loss(other)? - 1.0) * 100.0;
        (percent > most)
            .then(|| format!("{name} is {percent:.2} % worse than {other}; at most {most} % is accepted"))
    };
    LIMITS.into_iter().filter_map(check).collect()
}

fn table(found: &Value) -> String {
    let mut text =
        format!("{} samples each, after {} steps together\n", found["samples"], found["warm_up_steps"]);
    for (name, run) in found["runs"].as_object().into_iter().flatten() {
        let number = |key: &str| run[key].as_f64().unwrap_or(f64::NAN);
        let _ = writeln!(text, "{name:<28} {:>8.4} {:>+7.2} %", number("loss"), number("percent"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_over_its_limit_is_reported() {
        let found = |h25: f64| {
            let runs =
                json!({"sync": {"loss": 4.0, "percent": 0.0}, "h25_int8": {"loss": h25, "percent": 2.5}});
            json!({"samples": 8, "warm_up_steps": 2, "runs": runs})
        };
        assert!(over_limit(&found(4.1)).is_empty());
        let said = over_limit(&found(4.4));
        assert!(said.len() == 1 && said[0].contains("h25_int8 is 10.00 % worse than sync"), "{said:?}");
        let table = table(&found(4.1));
        assert!(table.contains("8 samples each") && table.contains("4.1000   +2.50 %"), "{table}");
    }
}
