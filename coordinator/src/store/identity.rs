//! Which coordinator of which cluster a data directory belongs to.

use super::error::{StoreError, corrupt};
use super::leftovers;
use muster_host::durable;
use muster_protocol::ids::RaftId;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The format of data directories that this build writes, and the newest that it reads; it reads all older
/// ones. 2: snapshots may be of the second layout, which builds that know only format 1 can't read.
pub const DATA_FORMAT: u32 = 2;

/// A longer file is not an identity.
const IDENTITY_BYTES_MAX: u64 = 4096;

/// The owner of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreIdentity {
    pub cluster: String,
    pub name: String,
    pub raft_id: RaftId,
}

/// Creates the directory itself if it does not exist.
pub fn make_directory(dir: &Path) -> Result<(), StoreError> {
    let make = || {
        fs::create_dir_all(dir)?;
        durable::sync_parent(dir)
    };
    if dir.is_dir() { Ok(()) } else { make().map_err(|source| StoreError::io(dir, source)) }
}

/// Checks that a directory is this coordinator's; an empty one becomes it.
pub fn claim(dir: &Path, identity: &StoreIdentity) -> Result<(), StoreError> {
    let path = dir.join("identity");
    let write = |identity: &StoreIdentity| {
        leftovers::write_file(&path, &[to_text(DATA_FORMAT, identity).as_bytes()])
            .map_err(|source| StoreError::io(&path, source))
    };
    let Some((format, found)) = read_format(dir)? else {
        // A directory with anything else in it is not ours to use.
        let mut items = fs::read_dir(dir).map_err(|source| StoreError::io(dir, source))?;
        let ours = |item: io::Result<fs::DirEntry>| {
            item.is_ok_and(|item| item.file_name() == "lock" || item.file_name() == "identity.new")
        };
        if !items.all(ours) {
            return Err(StoreError::NotAStore { dir: dir.to_path_buf() });
        }
        return write(identity);
    };
    let other = |field, found: &dyn ToString, expected: &dyn ToString| {
        Err(StoreError::OtherIdentity {
            dir: dir.to_path_buf(),
            field,
            found: found.to_string(),
            expected: expected.to_string(),
        })
    };
    if found.cluster != identity.cluster {
        return other("cluster", &found.cluster, &identity.cluster);
    }
    if found.name != identity.name {
        return other("coordinator", &found.name, &identity.name);
    }
    if found.raft_id != identity.raft_id {
        return other("raft id", &found.raft_id, &identity.raft_id);
    }
    // Before anything of the newer format is written: an older build then refuses the directory by its
    // format.
    if format < DATA_FORMAT { write(identity) } else { Ok(()) }
}

/// The owner of a data directory; `None` if it has no identity.
pub fn read(dir: &Path) -> Result<Option<StoreIdentity>, StoreError> {
    Ok(read_format(dir)?.map(|(_, identity)| identity))
}

fn read_format(dir: &Path) -> Result<Option<(u32, StoreIdentity)>, StoreError> {
    let path = dir.join("identity");
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(IDENTITY_BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) if source.kind() == io::ErrorKind::InvalidData => {
            return Err(corrupt(path.display().to_string(), "it is not text").into());
        }
        Err(source) => return Err(StoreError::io(&path, source)),
    }
    // Every later format keeps the first line.
    let format =
        text.lines().next().and_then(|line| line.strip_prefix("format ")).and_then(|n| n.parse::<u32>().ok());
    let format = match format {
        Some(known @ 1..=DATA_FORMAT) => known,
        Some(found) if found > DATA_FORMAT => {
            return Err(StoreError::NewerFormat { dir: dir.to_path_buf(), found, known: DATA_FORMAT });
        }
        Some(_) | None => {
            return Err(corrupt(path.display().to_string(), "its first line is not \"format N\"").into());
        }
    };
    from_text(format, &text)
        .map(|identity| Some((format, identity)))
        .ok_or_else(|| corrupt(path.display().to_string(), "it is not what was written").into())
}

fn to_text(format: u32, identity: &StoreIdentity) -> String {
    let StoreIdentity { cluster, name, raft_id } = identity;
    let mut text = format!("format {format}\ncluster {cluster}\ncoordinator {name}\nraft_id {}\n", raft_id.0);
    let crc = crc32fast::hash(text.as_bytes());
    text.push_str(&format!("crc32 {crc:08x}\n"));
    text
}

fn from_text(format: u32, text: &str) -> Option<StoreIdentity> {
    let lines: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let identity = StoreIdentity {
        cluster: lines.get("cluster")?.to_string(),
        name: lines.get("coordinator")?.to_string(),
        raft_id: RaftId(lines.get("raft_id")?.parse().ok()?),
    };
    (to_text(format, &identity) == text).then_some(identity)
}
