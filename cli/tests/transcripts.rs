//! Conversations with the real binary, word by word: what is typed, what it says, and how it exits.
//!
//! Each file in `tests/transcripts` is one: `--- NAME` begins a file that lies beside, `---` ends it; `$
//! muster …` is a command, with what it says below it (`! ` before what goes to standard error) and `[CODE]`.
//! `MUSTER_RECORD=1` writes what is said now.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn transcripts() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    paths
}

/// Holds the conversation again: the transcript as it is now.
fn hold(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("large.toml"), vec![b'#'; (512 << 10) + 1]).unwrap();
    fs::write(directory.path().join("latin1.toml"), b"name = \"x\"\n# caf\xe9\n").unwrap();
    let mut now = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("--- ") {
            let content: Vec<&str> = lines.by_ref().take_while(|line| *line != "---").collect();
            let content = content.join("\n") + "\n";
            fs::write(directory.path().join(name), &content).unwrap();
            now.push_str(&format!("{line}\n{content}---\n"));
        } else if let Some(arguments) = line.strip_prefix("$ muster") {
            now.push_str(&format!("{line}\n{}", run(directory.path(), arguments)));
        } else if line.starts_with('#') || line.is_empty() {
            // Empty lines of outputs have a mark before them.
            now.push_str(&format!("{line}\n"));
        }
    }
    now
}

fn run(directory: &Path, arguments: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(arguments.split_whitespace()).current_dir(directory).env_clear();
    let output = command.output().unwrap();
    let here = directory.canonicalize().unwrap();
    let mut said = String::new();
    for (mark, bytes) in [("", &output.stdout), ("! ", &output.stderr)] {
        let text = String::from_utf8(bytes.clone()).unwrap().replace(here.to_str().unwrap(), "HERE");
        for line in text.lines() {
            let line = format!("{mark}{line}");
            said.push_str(&format!("{}\n", if line.is_empty() { "." } else { line.trim_end() }));
        }
    }
    said + &format!("[{}]\n", output.status.code().unwrap())
}

#[test]
fn every_conversation_goes_as_it_is_written_down() {
    let record = env::var_os("MUSTER_RECORD").is_some();
    let mut different = Vec::new();
    for path in transcripts() {
        let before = fs::read_to_string(&path).unwrap();
        let now = hold(&before);
        if record {
            fs::write(&path, &now).unwrap();
        } else if before != now {
            different.push(format!("{}:\n{now}", path.display()));
        }
    }
    assert!(different.is_empty(), "MUSTER_RECORD=1 writes these down:\n{}", different.join("\n"));
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error() {
    let mut command = Command::new("sh");
    let script = format!(
        "{} --help | head -1; {} submit plan.toml --dry-run | true",
        env!("CARGO_BIN_EXE_muster"),
        env!("CARGO_BIN_EXE_muster")
    );
    let directory = tempfile::tempdir().unwrap();
    let stage = |n| format!("[[stage]]\nname = \"s{n}\"\nnoop = true\n");
    let stages: String = (0..250).map(stage).collect();
    fs::write(directory.path().join("plan.toml"), format!("name = \"long\"\n{stages}")).unwrap();
    let output = command.args(["-c", &script]).current_dir(directory.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panic"), "{said}");
}
