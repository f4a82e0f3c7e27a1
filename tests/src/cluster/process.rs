//! A child process: its output goes to a file, and it is killed when its value is dropped or the test program
//! ends.

use super::error::Error;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

const LOG_BYTES_SHOWN: usize = 6_000;

pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts a program. Its output is appended to `log`.
    pub fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Process, Error> {
        let name =
            format!("{} ({})", log.file_stem().unwrap_or_default().to_string_lossy(), program.display());
        let output = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .map_err(Error::io(format!("open {}", log.display())))
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(output()?).stderr(output()?);
        // Its own group: a Ctrl-C at the terminal ends the test, and the test ends its children.
        command.process_group(0);
        die_with_parent(&mut command);
        let child = command.spawn().map_err(Error::io(format!("start {}", program.display())))?;
        Ok(Process { child, name })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGSTOP: from outside, the machine hangs.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("signal {}: {error}", self.name));
    }

    /// `None` while it runs.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("wait for {}: {error}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(unsafe_code, reason = "only between fork and exec can a child ask to die with its parent")]
fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure makes one system call, which allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from));
    }
}

/// Prints the end of each log in `directory` to standard error.
#[expect(
    clippy::print_stderr,
    reason = "the only trace of a failure in a directory that is about to be deleted"
)]
pub fn show_ends_of_logs(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut logs: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    logs.sort();
    for log in logs {
        let text = fs::read(&log).unwrap_or_default();
        let end = &text[text.len().saturating_sub(LOG_BYTES_SHOWN)..];
        eprintln!("---- the end of {}\n{}", log.display(), String::from_utf8_lossy(end));
    }
}

/// Whether a process with this id runs; a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::wait_for;

    #[test]
    fn a_process_ends_when_its_value_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("sleeper.log");
        let arguments = ["-c", "echo awake; exec sleep 1000"].map(str::to_string);
        let mut process = Process::start(Path::new("/bin/sh"), &arguments, &log).unwrap();
        wait_for("its first line", || {
            fs::read_to_string(&log).ok().filter(|text| text == "awake\n").ok_or(())
        });
        let pid = process.pid();
        process.freeze();
        assert!(is_alive(pid) && process.exit().is_none(), "a frozen process is still there");
        process.thaw();
        drop(process);
        assert!(!is_alive(pid));
        let absent = Process::start(Path::new("/no/such/program"), &[], &log);
        assert!(absent.is_err());
    }

    #[test]
    fn the_exit_after_sigterm_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["1000".to_string()];
        let mut process =
            Process::start(Path::new("sleep"), &arguments, &directory.path().join("sleeper.log")).unwrap();
        process.terminate();
        let exit = wait_for("its end", || process.exit().ok_or(()));
        assert!(!exit.success());
    }
}
