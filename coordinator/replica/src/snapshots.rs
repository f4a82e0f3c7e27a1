//! Snapshots of this member's own: when one is due, what must be durable first, and how much of the log may
//! go.

use super::Core;
use crate::disk::{Disk, DiskError};
use muster_machine::State;
use raft::Storage;
use raft::eraftpb::{Snapshot, SnapshotMetadata};

/// The state in a snapshot. `Err` says what does not fit.
pub(super) fn open(snapshot: &Snapshot, cluster: &str) -> Result<State, String> {
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

impl Core {
    /// Makes a snapshot if one is due, and truncates the log.
    pub(super) fn keep_snapshot(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        let applied = self.state.applied().0;
        let log = self.node.store();
        let since = applied - log.snapshot_index();
        let due = since >= self.config.snapshot_every_entries
            || self.bytes_since_snapshot >= self.config.snapshot_every_bytes
            || log.wants_snapshot();
        if !due || since == 0 {
            return Ok(());
        }
        let Ok(term) = log.term(applied) else { return Ok(()) };
        let mut metadata = SnapshotMetadata { index: applied, term, ..SnapshotMetadata::default() };
        metadata.set_conf_state(log.conf_state().clone());
        let mut snapshot = Snapshot { data: self.state.to_bytes().into(), ..Snapshot::default() };
        snapshot.set_metadata(metadata);
        // The ledger is made again from entries after the snapshot only; and no entry may go that is not
        // known to be committed.
        disk.sync_ledger()?;
        disk.append(log.hard_state(), log.conf_state(), &[], true)?;
        disk.save_snapshot(&snapshot)?;
        let first_kept = log.first().max((applied + 1).saturating_sub(self.config.keep_entries));
        disk.truncate(first_kept)?;
        tracing::info!(index = applied, bytes = snapshot.data.len(), first_kept, "made a snapshot");
        self.node.mut_store().compact(snapshot, first_kept);
        self.bytes_since_snapshot = 0;
        Ok(())
    }
}
