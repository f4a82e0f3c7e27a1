//! One child process. Its output goes to a file; it is killed when this value is dropped or this process
//! dies.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const LOG_BYTES_SHOWN: u64 = 4_000;
const POLL_INTERVAL_MS: u64 = 20;

/// Start it from a thread that lives as long as the child should: Linux sends the parent-death signal when
/// the *thread* that forked exits.
pub struct Child {
    process: process::Child,
    log: PathBuf,
    /// For instance `c1`.
    pub name: String,
}

impl Child {
    /// Starts a program; its output is appended to `log`.
    pub fn start(name: &str, program: &Path, arguments: &[String], log: &Path) -> Result<Child> {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .with_context(|| format!("open {}", log.display()))
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(open()?).stderr(open()?);
        // Its own process group: Ctrl-C in the terminal reaches only this process, which then ends its
        // children in order.
        command.process_group(0);
        die_with_parent(&mut command);
        let process = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Child { process, log: log.to_path_buf(), name: name.to_string() })
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        // It may have exited already.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
    }

    /// Sends SIGKILL and waits for the exit.
    pub fn kill(&mut self) {
        // An error means that it has exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The exit status, if it has exited.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Waits for the exit; `false` if `limit` passes first.
    pub async fn await_end(&mut self, limit: Duration) -> bool {
        let began = Instant::now();
        while self.exit().is_none() {
            if began.elapsed() > limit {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
        }
        true
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last part of its output.
    pub fn log_tail(&self) -> String {
        end_of(&self.log).unwrap_or_else(|error| format!("({error})"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = fs::metadata(path)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_SHOWN)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_SHOWN).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_string())
}

#[expect(unsafe_code, reason = "only between fork and exec can a child ask to die with its parent")]
fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure makes one system call; it neither allocates nor locks.
    unsafe {
        command.pre_exec(|| set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_with_the_value_that_stands_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("sleeper.log");
        let arguments = ["-c", "echo awake; exec sleep 1000"].map(str::to_string);
        let mut child = Child::start("sleeper", Path::new("/bin/sh"), &arguments, &log).unwrap();
        assert!(child.exit().is_none());
        let proc = PathBuf::from(format!("/proc/{}", child.process.id()));
        assert!(proc.exists());
        drop(child);
        assert!(!proc.exists());
        assert!(Child::start("absent", Path::new("/no/such/program"), &[], &log).is_err());
    }
}
