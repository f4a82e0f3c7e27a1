//! Transcripts: scripts of commands with the events and answers that they lead to, in the `.txt` files beside
//! this one.
//!
//! A script is made of cases: a line with a command (see `script.rs`), a line `----`, and what came of it, up
//! to an empty line. Lines that begin with `#` say why. `MUSTER_RECORD=1` writes down what comes now; then
//! look at the difference. After every command all invariants hold, and the state is read back from its own
//! snapshot.

mod script;
mod show;

use script::Script;
use std::fs;
use std::path::PathBuf;

fn run(text: &str) -> String {
    let mut script = Script::new();
    let mut out = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        out += line;
        out += "\n";
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        assert_eq!(lines.next(), Some("----"), "after `{line}`");
        lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
        out += "----\n";
        for line in script.run(line) {
            out += &line;
            out += "\n";
        }
        out += "\n";
    }
    out.trim_end().to_string() + "\n"
}

fn scripts() -> Vec<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    scripts.sort();
    scripts
}

#[test]
fn every_transcript_comes_out_as_it_was_written_down() {
    let record = std::env::var_os("MUSTER_RECORD").is_some();
    let mut differing = Vec::new();
    let scripts = scripts();
    assert!(scripts.len() >= 14, "only {} transcripts", scripts.len());
    for path in scripts {
        let expected = fs::read_to_string(&path).unwrap();
        let got = run(&expected);
        if record {
            fs::write(&path, &got).unwrap();
        } else if got != expected {
            let at =
                got.lines().zip(expected.lines()).position(|(got, expected)| got != expected).unwrap_or(0);
            let part =
                |text: &str| text.lines().skip(at.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n");
            differing.push(format!(
                "{} from line {}:\n{}\nbut was:\n{}",
                path.display(),
                at + 1,
                part(&got),
                part(&expected)
            ));
        }
    }
    assert!(differing.is_empty(), "{}\n\nMUSTER_RECORD=1 writes down what comes now", differing.join("\n\n"));
}
