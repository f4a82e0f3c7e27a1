//! What a killed agent left behind although it should not have: processes of attempts in this data directory.
//! They are ended at the start.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A process may start others while it is being looked for; so often it is looked again at most.
const ROUNDS_MAX: u32 = 10;

/// Ends every process whose environment says that it is an attempt of the worker with this directory of
/// attempts. The directory's lock must be held: then no living agent has any.
pub(crate) fn end_leftovers(attempts: &Path) {
    let mut mark = b"MUSTER_SCRATCH=".to_vec();
    mark.extend_from_slice(attempts.as_os_str().as_bytes());
    mark.push(b'/');
    for _ in 0..ROUNDS_MAX {
        let found: Vec<Pid> = marked(&mark);
        if found.is_empty() {
            return;
        }
        for pid in found {
            tracing::warn!(
                pid = pid.as_raw_nonzero().get(),
                "ending a process that an earlier life of this worker left behind"
            );
            // It may have ended by itself meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn marked(mark: &[u8]) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let pids = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own);
    // Other users' processes cannot be read, and are not ours.
    let is_marked = |pid: &u32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|all| all.split(|b| *b == 0).any(|v| v.starts_with(mark)))
    };
    pids.filter(is_marked).filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).collect()
}
