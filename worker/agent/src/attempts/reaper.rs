//! The process reaper: a small process that kills the attempts' process groups if the agent is killed, or
//! hangs until its lease has expired.
//!
//! It is a fork of the agent that never executes another program. It reads messages from a pipe; when the
//! pipe closes, the agent is dead. Parent-death signals reach only the agent's direct children; the reaper
//! reaches whole process groups.

use rustix::fs::OFlags;
use rustix::process::Pid;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

/// At most this many groups are watched.
const GROUPS_MAX: usize = 8_192;
/// A message: its kind, whether the group is fenced, padding, the group (4 bytes), milliseconds (8 bytes).
const MESSAGE_BYTES: usize = 16;
const WATCH: u8 = 1;
const RELEASE: u8 = 2;
const LEASE: u8 = 3;

/// The agent's end.
#[derive(Debug)]
pub(crate) struct ProcessReaper {
    child: Child,
    pipe: Option<ChildStdin>,
}

/// A process group; 0: an unused slot.
#[derive(Clone, Copy, Default)]
struct WatchedGroup {
    group: i32,
    fenced: bool,
}

impl ProcessReaper {
    /// Forks the reaper. Call this first, while the process has few open files and threads.
    pub(crate) fn start() -> io::Result<ProcessReaper> {
        // Allocated before the fork: a child of a process with threads must not allocate.
        let mut slots = vec![WatchedGroup::default(); GROUPS_MAX];
        let mut command = Command::new("muster-reaper");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        #[expect(
            unsafe_code,
            reason = "the closure runs in the forked child, and calls only what POSIX allows there"
        )]
        // SAFETY: `reap` allocates nothing, takes no lock, and does not return.
        unsafe {
            command.pre_exec(move || reap(&mut slots));
        }
        let mut child = command.spawn()?;
        let pipe = child.stdin.take();
        if let Some(pipe) = &pipe {
            rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK)?;
        }
        Ok(ProcessReaper { child, pipe })
    }

    /// Watches this group; a fenced one must not outlive the lease.
    pub(super) fn watch(&mut self, group: Pid, fenced: bool) {
        self.send(WATCH, fenced, group.as_raw_nonzero().get(), 0);
    }

    /// This group has ended.
    pub(super) fn release(&mut self, group: Pid) {
        self.send(RELEASE, false, group.as_raw_nonzero().get(), 0);
    }

    /// The lease holds for this long from now.
    pub(super) fn lease(&mut self, remaining_ms: u64) {
        self.send(LEASE, false, 0, remaining_ms);
    }

    fn send(&mut self, kind: u8, fenced: bool, group: i32, ms: u64) {
        let mut message = [0; MESSAGE_BYTES];
        message[0] = kind;
        message[1] = u8::from(fenced);
        message[4..8].copy_from_slice(&group.to_le_bytes());
        message[8..].copy_from_slice(&ms.to_le_bytes());
        // Shorter than PIPE_BUF: it is written whole or not at all.
        if let Some(pipe) = &mut self.pipe
            && let Err(error) = pipe.write_all(&message)
        {
            tracing::error!(%error, "the process reaper is gone: attempts may outlive this worker");
            self.pipe = None;
        }
    }
}

impl Drop for ProcessReaper {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // It ends as soon as the pipe closes.
        let _ = self.child.wait();
    }
}

#[expect(unsafe_code, reason = "raw system calls: after a fork nothing else is allowed")]
fn reap(slots: &mut [WatchedGroup]) -> io::Result<()> {
    // SAFETY: system calls on memory of this frame; nothing is allocated; no Rust destructor runs, since
    // `_exit` ends the process.
    unsafe {
        libc::setsid();
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::prctl(libc::PR_SET_NAME, c"muster-reaper".as_ptr());
        // Locks and sockets must close with the agent. Closing the pipe of `spawn` lets it return.
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32);
        let mut lease_ends: Option<u64> = None;
        let mut buffer = [0_u8; MESSAGE_BYTES * 64];
        loop {
            let timeout =
                lease_ends.map_or(-1, |ends| ends.saturating_sub(monotonic_ms()).min(60_000) as libc::c_int);
            let mut pipe = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
            let ready = libc::poll(&mut pipe, 1, timeout);
            if lease_ends.is_some_and(|ends| monotonic_ms() >= ends) && ready <= 0 {
                kill(slots.iter().filter(|slot| slot.fenced));
                lease_ends = None;
            }
            if ready <= 0 {
                continue;
            }
            let read = libc::read(0, buffer.as_mut_ptr().cast(), buffer.len());
            if read <= 0 {
                kill(slots.iter());
                libc::_exit(0);
            }
            let mut at = 0;
            while at + MESSAGE_BYTES <= read as usize {
                let message = &buffer[at..at + MESSAGE_BYTES];
                let group = i32::from_le_bytes([message[4], message[5], message[6], message[7]]);
                let ms = u64::from_le_bytes([
                    message[8],
                    message[9],
                    message[10],
                    message[11],
                    message[12],
                    message[13],
                    message[14],
                    message[15],
                ]);
                match message[0] {
                    WATCH => {
                        if let Some(slot) = slots.iter_mut().find(|slot| slot.group == 0) {
                            *slot = WatchedGroup { group, fenced: message[1] != 0 };
                        }
                    }
                    RELEASE => {
                        slots.iter_mut().filter(|slot| slot.group == group).for_each(|slot| slot.group = 0)
                    }
                    _ => lease_ends = Some(monotonic_ms().saturating_add(ms)),
                }
                at += MESSAGE_BYTES;
            }
        }
    }
}

fn kill<'a>(slots: impl Iterator<Item = &'a WatchedGroup>) {
    for slot in slots.filter(|slot| slot.group > 0) {
        #[expect(unsafe_code, reason = "a raw system call: after a fork nothing else is allowed")]
        // SAFETY: it touches no memory.
        unsafe {
            libc::kill(-slot.group, libc::SIGKILL);
        }
    }
}

#[expect(unsafe_code, reason = "the clock by a raw system call: after a fork nothing else is allowed")]
fn monotonic_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to this frame's own value.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}
