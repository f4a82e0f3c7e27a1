//! The reference of all executors and their parameters, as Markdown.

use crate::executor::EXECUTORS;
use crate::params::{Parameter, ValueType};
use serde_json::Value;
use std::fmt::Write;

const HEAD: &str = "\
# Executors and their parameters

This page is generated from the program. To update it, run `MUSTER_RECORD=1 cargo test -p muster-executors reference`.

A stage with `executor = \"NAME\"` runs one of these. Its `params` are checked when the job is submitted. The job's
`params` apply to all of its stages, and a stage's own override them; a stage ignores those of the job's that it does
not have. `muster submit FILE --dry-run` prints every parameter of every stage with its value.

\"Only with\" says what another parameter must be for one to have an effect. A stage that sets one without it is
refused; the job's own parameters may be set anyway, since they are for all stages.
";

/// The page `docs/executors.md`.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for executor in EXECUTORS {
        // To write to a string can't fail.
        let _ = write!(page, "\n## `{}`\n\nIt {}.\n\n", executor.name, executor.summary);
        page.push_str("| parameter | default | values | meaning |\n|---|---|---|---|\n");
        for parameter in (executor.parameters)() {
            let Parameter { name, default, .. } = &parameter;
            let (default, values, meaning) = (shown(default), values(&parameter.kind), meaning(&parameter));
            let _ = writeln!(page, "| `{name}` | {default} | {values} | {meaning} |");
        }
    }
    page
}

fn shown(default: &Value) -> String {
    match default {
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::Array(list) if list.is_empty() => "empty".to_owned(),
        other => format!("`{other}`"),
    }
}

fn values(kind: &ValueType) -> String {
    match kind {
        ValueType::Integer(min, max) => format!("{min} to {max}"),
        ValueType::Number(min, max) => format!("{min} to {max}"),
        ValueType::String => "string".to_owned(),
        ValueType::Strings => "array of strings".to_owned(),
        ValueType::OneOf(words) => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        ValueType::Flag => "true, false".to_owned(),
    }
}

fn meaning(parameter: &Parameter) -> String {
    let mut meaning = parameter.about.trim_end_matches('.').to_owned();
    let conditions: Vec<String> =
        parameter.only_with.iter().map(|(of, condition)| condition.describe(of)).collect();
    if !conditions.is_empty() {
        meaning.push_str(&format!(". Only {}", conditions.join(" and ")));
    }
    if let Some(limit) = &parameter.at_most {
        meaning.push_str(&format!(". At most `{limit}`"));
    }
    meaning.replace('|', "\\|") + "."
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{env, fs};

    #[test]
    fn the_reference_in_docs_is_that_of_the_program() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/executors.md");
        if env::var_os("MUSTER_RECORD").is_some_and(|flag| flag == "1") {
            fs::write(path, reference()).unwrap();
        }
        let kept = fs::read_to_string(path).unwrap_or_default();
        assert!(kept == reference(), "docs/executors.md is old; MUSTER_RECORD=1 writes it anew");
    }
}
