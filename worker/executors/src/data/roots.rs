//! The default input: the sources that cargo fetched on the machine that built this program.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The directories to read if none are given: what cargo unpacked; without that, the vendored crates and this
/// program's own sources.
pub fn discovered() -> Vec<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let registry = home.map(|home| children(&home.join("registry/src"))).unwrap_or_default();
    if registry.is_empty() {
        own_sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")))
    } else {
        registry
    }
}

/// The source directories of the workspace, without what a build leaves there.
fn own_sources(workspace: &Path) -> Vec<PathBuf> {
    let rooms = ["vendor", "protocol", "host", "coordinator", "worker", "cli", "tests", "xtask"];
    rooms.iter().map(|room| workspace.join(room)).filter(|room| room.is_dir()).collect()
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut children: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    children.sort();
    children
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_built_this_has_sources() {
        let found = discovered();
        assert!(!found.is_empty() && found.iter().all(|root| root.is_dir()), "{found:?}");
        let own = own_sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")));
        assert!(own.iter().any(|root| root.ends_with("protocol")), "{own:?}");
    }
}
