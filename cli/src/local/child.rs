//! One child process: its output goes to a file, and it ends with this value, or with this process, whichever
//! ends first.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How much of a log is shown after a failure.
const LOG_BYTES_SHOWN: u64 = 4_000;
/// Between two looks whether it has ended.
const POLL_INTERVAL_MS: u64 = 20;

/// A running child process.
///
/// It must be started by a thread that lives as long as it should: the system's notion of a parent's death is
/// that of the thread.
pub struct Child {
    process: process::Child,
    log: PathBuf,
    /// What it is: `c1`.
    pub name: String,
}

impl Child {
    /// Starts a program. Its output is appended to `log`.
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
        // A group of its own: Ctrl-C at the terminal reaches this process alone, which then ends its children
        // in order.
        command.process_group(0);
        die_with_parent(&mut command);
        let process = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Child { process, log: log.to_path_buf(), name: name.to_string() })
    }

    /// Asks it to end, with SIGTERM.
    pub fn terminate(&self) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
    }

    /// Ends it with SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Its exit, if it has ended.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Waits until it has ended, for so long.
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

    /// Where its output is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How its output ends.
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
    // SAFETY: the closure makes one system call, which allocates nothing and takes no lock.
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
