//! The command line is consistent, and every command that a document shows parses.

use super::values::{job_id, log_source};
use super::{Cli, LogSource};
use clap::{CommandFactory, Parser};
use muster_protocol::ids::{AttemptId, JobId, TaskId};

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_that_is_shown_has_an_example() {
    let mut command = Cli::command();
    command.build();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let after = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(after.contains("muster "), "{} has no example", verb.get_name());
    }
}

#[test]
fn ids() {
    assert_eq!(job_id("42"), Ok(JobId(42)));
    assert_eq!(job_id("job-42"), Ok(JobId(42)));
    assert!(
        job_id("job-").is_err() && job_id("").is_err() && job_id("+4").is_err() && job_id("job-4.2").is_err()
    );
    let task = TaskId { job: JobId(4), index: 2 };
    assert_eq!(log_source("4"), Ok(LogSource::Job(JobId(4))));
    assert_eq!(log_source("job-4.2"), Ok(LogSource::Task(task)));
    assert_eq!(log_source("4.2#7"), Ok(LogSource::Attempt(AttemptId { task, epoch: 7 })));
    assert!(log_source("x").is_err() && log_source("4.2.1").is_err());
}

/// The commands in a text: after a prompt (`$` or `HOST$`) or at the start of a line, with continuation
/// lines joined. ` ; ` and ` && ` separate several commands on a line.
fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter_map(|line| {
        let after_prompt = line.split_once("$ ").map(|(prompt, command)| (prompt.contains(' '), command));
        let command = after_prompt.filter(|(sentence, _)| !sentence).map_or(line, |(_, command)| command);
        command.starts_with("muster ").then_some(command)
    });
    lines
        .flat_map(|line| {
            let line = line.replace(" && ", " ; ");
            line.split(" ; ").map(words).collect::<Vec<_>>()
        })
        .filter(|command| command.first().is_some_and(|program| program == "muster"))
        .collect()
}

/// Splits a command into words; single quotes group, ` # ` begins a comment.
fn words(command: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, part) in command.split('\'').enumerate() {
        if index % 2 == 1 {
            found.push(part.to_string());
            continue;
        }
        let (part, comment) = part.split_once(" # ").map_or((part, false), |(part, _)| (part, true));
        found.extend(part.split_whitespace().map(str::to_string));
        if comment {
            break;
        }
    }
    found
}

#[test]
fn every_command_that_is_shown_is_valid() {
    let mut texts = vec![
        ("README.md", include_str!("../../../README.md").to_string()),
        ("docs/cli.md", include_str!("../../../docs/cli.md").to_string()),
        ("docs/job-file.md", include_str!("../../../docs/job-file.md").to_string()),
        (
            "the coordinator's unit",
            include_str!("../../../deploy/systemd/muster-coordinator.service").to_string(),
        ),
        ("the worker's unit", include_str!("../../../deploy/systemd/muster-worker.service").to_string()),
    ];
    for (_, unit) in texts.iter_mut().filter(|(name, _)| name.contains("unit")) {
        *unit = unit
            .replace("ExecStart=/usr/local/bin/", "")
            .replace("${MUSTER_HTTP}", "10.0.0.1:7401")
            .replace("${MUSTER_PEER}", "10.0.0.1:7501")
            .replace(" $MUSTER_WORKER_FLAGS", "");
    }
    let mut command = Cli::command();
    command.build();
    for verb in command.get_subcommands() {
        texts.push(("help", verb.get_after_help().map(ToString::to_string).unwrap_or_default()));
        for nested in verb.get_subcommands() {
            texts.push(("help", nested.get_after_help().map(ToString::to_string).unwrap_or_default()));
        }
    }
    for (name, text) in &texts {
        let shown = commands(text);
        assert!(!shown.is_empty() || *name == "help" || name.starts_with("docs"), "{name} shows no command");
        for command in shown {
            if let Err(error) = Cli::try_parse_from(&command) {
                panic!("{name}: {command:?}: {error}");
            }
        }
    }
}
