//! Every job file in `examples/` is one that `muster submit` takes.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_example_is_a_valid_job_file() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut checked = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let output = Command::new(env!("CARGO_BIN_EXE_muster"))
            .arg("submit")
            .arg(&path)
            .arg("--dry-run")
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        checked += 1;
    }
    assert!(checked > 0);
}
