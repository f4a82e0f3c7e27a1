//! Snapshots: how one is read, what must be durable before one is kept, and how much of the log may go then.

use crate::disk::{Disk, DiskError};
use crate::log_cache::LogCache;
use muster_machine::State;
use raft::Storage;
use raft::eraftpb::{Snapshot, SnapshotMetadata};

/// The state in a snapshot. `Err` says why it cannot be used.
pub fn open(snapshot: &Snapshot, cluster: &str) -> Result<State, String> {
    let index = snapshot.get_metadata().index;
    let state = State::from_bytes(&snapshot.data)
        .map_err(|error| format!("the snapshot of index {index} cannot be read: {error}"))?;
    if state.cluster() != cluster {
        return Err(format!(
            "the snapshot of index {index} is of cluster {:?}, not {cluster:?}",
            state.cluster()
        ));
    }
    if state.applied().0 != index {
        return Err(format!("the snapshot of index {index} holds the state of index {}", state.applied()));
    }
    Ok(state)
}

/// Saves a snapshot of `state` and truncates the log, except for `keep_entries` before the snapshot. `false`
/// if the log does not know the term of the last applied entry.
pub fn take(
    state: &State,
    log: &mut LogCache,
    keep_entries: u64,
    disk: &mut dyn Disk,
) -> Result<bool, DiskError> {
    let applied = state.applied().0;
    let Ok(term) = log.term(applied) else { return Ok(false) };
    let mut metadata = SnapshotMetadata { index: applied, term, ..SnapshotMetadata::default() };
    metadata.set_conf_state(log.conf_state().clone());
    let mut snapshot = Snapshot { data: state.to_bytes().into(), ..Snapshot::default() };
    snapshot.set_metadata(metadata);
    // After a crash the ledger is rebuilt from entries after the snapshot only, so it must be durable up to
    // here. And no entry may go before it is durably known to be committed.
    disk.sync_ledger()?;
    disk.append(log.hard_state(), log.conf_state(), &[], true)?;
    disk.save_snapshot(&snapshot)?;
    let first_kept = log.first().max((applied + 1).saturating_sub(keep_entries));
    disk.truncate(first_kept)?;
    tracing::info!(index = applied, bytes = snapshot.data.len(), first_kept, "took a snapshot");
    log.compact(snapshot, first_kept);
    Ok(true)
}
