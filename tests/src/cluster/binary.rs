//! The binary under test: built with the tests, or named by `MUSTER_BIN`.

use super::error::Error;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the binary `muster`; builds it if necessary.
pub fn muster() -> Result<PathBuf, Error> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(find).clone().ok_or(Error::Build)
}

fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os("MUSTER_BIN") {
        return Some(PathBuf::from(named)).filter(|path| path.exists());
    }
    // Tests are in `<target>/<profile>/deps`, other programs in `<target>/<profile>`.
    let own = env::current_exe().ok()?;
    let mut directory = own.parent()?;
    if directory.ends_with("deps") {
        directory = directory.parent()?;
    }
    let binary = directory.join("muster");
    if binary.exists() { Some(binary) } else { build(directory, &binary) }
}

fn build(directory: &Path, binary: &Path) -> Option<PathBuf> {
    let profile = match directory.file_name()?.to_str()? {
        "debug" => "dev",
        other => other,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--workspace", "--bin", "muster", "--profile", profile, "--target-dir"];
    let built = Command::new(cargo).args(arguments).arg(directory.parent()?).status().ok()?;
    (built.success() && binary.exists()).then(|| binary.to_path_buf())
}
