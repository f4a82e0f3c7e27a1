//! The reference of all executors and their parameters, as Markdown.

use crate::executor::EXECUTORS;
use crate::params::{Kind, Parameter};
use serde_json::Value;
use std::fmt::Write;

const HEAD: &str = "\
# Executors and their parameters

This page is written from the program: `MUSTER_RECORD=1 cargo test -p muster-executors reference` writes it anew.

A stage with `executor = \"NAME\"` runs one of these. Its `params` are checked when the job is submitted: an unknown key is answered with the
nearest one, a value outside its range with the range. The job's `params` go to all of its stages, and a stage's are laid over them; what a stage
does not know of the job's is left out. `muster submit FILE --dry-run` prints every parameter with the value that it would have.
\"Only\" says what another parameter must be for one to mean something; that binds what a stage says, not what the job says.
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

fn values(kind: &Kind) -> String {
    match kind {
        Kind::Integer(min, max) => format!("{min} to {max}"),
        Kind::Number(min, max) => format!("{min} to {max}"),
        Kind::Text => "text".to_owned(),
        Kind::Texts => "list of texts".to_owned(),
        Kind::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Flag => "true, false".to_owned(),
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
