//! `cargo xtask bench data`: data preparation against Hugging Face's libraries, in one run on the same text.
//!
//! The bench itself is an example of `worker/data`, so that it measures the library as a user would build it.
//! It needs the oracles' Python, with `datasets` and `tokenizers`.

use crate::{cargo, oracle};
use anyhow::{Result, bail};
use serde_json::Value;
use std::process::Command;

/// The lowest accepted ratio of our tokens per second to Hugging Face's.
const TOKENS_VS_HF_MIN: f64 = 2.0;

/// With `json`, standard output is one JSON object.
pub fn bench(json: bool, profile: &str, rest: &[String]) -> Result<bool> {
    let python = oracle::python()?;
    if !cargo::build(profile)? {
        bail!("build the workspace");
    }
    let mut command = Command::new(cargo::binary(profile, "examples/bench_data"));
    let found = cargo::json_of(
        command.arg("--python").arg(python).args(["--script", "oracle/data/bench_hf.py"]).args(rest),
    )?;
    if json {
        println!("{found}");
    } else {
        println!("{}", table(&found));
    }
    Ok(found["tokens_vs_hf"].as_f64().is_some_and(|ratio| ratio >= TOKENS_VS_HF_MIN))
}

fn table(found: &Value) -> String {
    let side = |name: &str, key: &str| {
        found[name]["tokens_per_s"].as_f64().map_or_else(|| key.to_owned(), |rate| format!("{rate:.0}"))
    };
    format!(
        "{} tokens of real text, {} threads each\nMuster        {:>12} tokens/s\nHugging Face  {:>12} tokens/s\nratio         {:>12}",
        found["tokens"],
        found["threads"],
        side("muster", "?"),
        side("hf", "?"),
        found["tokens_vs_hf"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_has_both_sides() {
        let found = json!({"tokens": 9, "threads": 2, "tokens_vs_hf": 3.5, "muster": {"tokens_per_s": 70.0}, "hf": {"tokens_per_s": 20.0}});
        let table = table(&found);
        assert!(table.contains("Muster                  70 tokens/s") && table.contains("3.5"), "{table}");
    }
}
