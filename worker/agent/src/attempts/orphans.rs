//! Orphans: processes of attempts that outlived an earlier agent of this data directory, although the reaper
//! should have ended them. The worker ends them at its start.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A process may start others during the search, so the search is repeated, at most this often.
const SEARCHES_MAX: u32 = 10;

/// Kills every process whose environment names this directory of attempts. The caller must hold the lock of
/// the data directory: then no living agent owns such a process.
pub(crate) fn end_orphans(attempts: &Path) {
    let mut mark = b"MUSTER_SCRATCH=".to_vec();
    mark.extend_from_slice(attempts.as_os_str().as_bytes());
    mark.push(b'/');
    for _ in 0..SEARCHES_MAX {
        let found: Vec<Pid> = pids_with(&mark);
        if found.is_empty() {
            return;
        }
        for pid in found {
            tracing::warn!(
                pid = pid.as_raw_nonzero().get(),
                "killing a process that an earlier agent of this worker left behind"
            );
            // It may have ended since.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn pids_with(mark: &[u8]) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let pids = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own);
    // Processes of other users cannot be read, and are not ours.
    let is_marked = |pid: &u32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|all| all.split(|b| *b == 0).any(|v| v.starts_with(mark)))
    };
    pids.filter(is_marked).filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).collect()
}
