//! The warden: a small process that ends what the agent runs, should the agent be killed, or freeze beyond
//! its lease.
//!
//! It is a fork of the agent that never executes another program: it reads the agent's words from a pipe, and
//! the pipe's end is the agent's end. Parent-death signals reach only the direct children of an agent; this
//! reaches their process groups. The shim that lets attempts outlive their agent will take its place.

use rustix::fs::OFlags;
use rustix::process::Pid;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Groups that it can watch at once.
const GROUPS_MAX: usize = 8_192;
/// A word: what, whether it is about the fenced only, a group, milliseconds.
const WORD_BYTES: usize = 16;
const GUARD: u8 = 1;
const RELEASE: u8 = 2;
const LEASE: u8 = 3;

/// The agent's hold on its warden.
#[derive(Debug)]
pub(crate) struct Warden {
    child: Child,
    words: Option<ChildStdin>,
}

/// A process group that the warden watches; 0: a free place.
#[derive(Clone, Copy, Default)]
struct Guarded {
    group: i32,
    fenced: bool,
}

impl Warden {
    /// Starts it.
    pub(crate) fn start() -> io::Result<Warden> {
        // Taken before the fork: after it, in a process that had threads, nothing may be allocated.
        let mut places = vec![Guarded::default(); GROUPS_MAX];
        let mut command = Command::new("muster-warden");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        #[expect(
            unsafe_code,
            reason = "the closure runs in the forked child, and calls only what POSIX allows there"
        )]
        // SAFETY: `keep_watch` allocates nothing, takes no lock, and does not return.
        unsafe {
            command.pre_exec(move || keep_watch(&mut places));
        }
        let mut child = command.spawn()?;
        let words = child.stdin.take();
        if let Some(words) = &words {
            rustix::fs::fcntl_setfl(words, OFlags::NONBLOCK)?;
        }
        Ok(Warden { child, words })
    }

    /// Watch this group; a fenced one must not outlive the lease.
    pub(crate) fn guard(&mut self, group: Pid, fenced: bool) {
        self.tell(GUARD, fenced, group.as_raw_nonzero().get(), 0);
    }

    /// This group is no more.
    pub(crate) fn release(&mut self, group: Pid) {
        self.tell(RELEASE, false, group.as_raw_nonzero().get(), 0);
    }

    /// The lease holds for so long from now.
    pub(crate) fn lease(&mut self, remaining_ms: u64) {
        self.tell(LEASE, false, 0, remaining_ms);
    }

    fn tell(&mut self, what: u8, fenced: bool, group: i32, ms: u64) {
        let mut word = [0; WORD_BYTES];
        word[0] = what;
        word[1] = u8::from(fenced);
        word[4..8].copy_from_slice(&group.to_le_bytes());
        word[8..].copy_from_slice(&ms.to_le_bytes());
        // Shorter than PIPE_BUF: it is written whole or not at all.
        if let Some(words) = &mut self.words
            && let Err(error) = words.write_all(&word)
        {
            tracing::error!(%error, "the warden does not listen any more: processes of attempts may outlive this worker");
            self.words = None;
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        drop(self.words.take());
        // It ends at once when the pipe does; there is nothing to learn from how.
        let _ = self.child.wait();
    }
}

#[expect(unsafe_code, reason = "raw system calls: after a fork nothing else is allowed")]
fn keep_watch(places: &mut [Guarded]) -> io::Result<()> {
    // SAFETY: system calls on memory of this frame; nothing is allocated; no Rust destructor runs, since
    // `_exit` ends the process.
    unsafe {
        libc::setsid();
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::prctl(libc::PR_SET_NAME, c"muster-warden".as_ptr());
        // Locks and sockets are the agent's alone; closing the pipe of `spawn` lets it return.
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32);
        let mut lease_ends: Option<u64> = None;
        let mut words = [0_u8; WORD_BYTES * 64];
        loop {
            let timeout =
                lease_ends.map_or(-1, |ends| ends.saturating_sub(monotonic_ms()).min(60_000) as libc::c_int);
            let mut pipe = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
            let ready = libc::poll(&mut pipe, 1, timeout);
            if lease_ends.is_some_and(|ends| monotonic_ms() >= ends) && ready <= 0 {
                end(places.iter().filter(|place| place.fenced));
                lease_ends = None;
            }
            if ready <= 0 {
                continue;
            }
            let read = libc::read(0, words.as_mut_ptr().cast(), words.len());
            if read <= 0 {
                end(places.iter());
                libc::_exit(0);
            }
            let mut at = 0;
            while at + WORD_BYTES <= read as usize {
                let word = &words[at..at + WORD_BYTES];
                let group = i32::from_le_bytes([word[4], word[5], word[6], word[7]]);
                let ms = u64::from_le_bytes([
                    word[8], word[9], word[10], word[11], word[12], word[13], word[14], word[15],
                ]);
                match word[0] {
                    GUARD => {
                        if let Some(place) = places.iter_mut().find(|place| place.group == 0) {
                            *place = Guarded { group, fenced: word[1] != 0 };
                        }
                    }
                    RELEASE => places
                        .iter_mut()
                        .filter(|place| place.group == group)
                        .for_each(|place| place.group = 0),
                    _ => lease_ends = Some(monotonic_ms().saturating_add(ms)),
                }
                at += WORD_BYTES;
            }
        }
    }
}

/// Kills the groups at these places.
fn end<'a>(places: impl Iterator<Item = &'a Guarded>) {
    for place in places.filter(|place| place.group > 0) {
        #[expect(unsafe_code, reason = "a raw system call: after a fork nothing else is allowed")]
        // SAFETY: it touches no memory.
        unsafe {
            libc::kill(-place.group, libc::SIGKILL);
        }
    }
}

#[expect(unsafe_code, reason = "the clock, without what may not run after a fork")]
fn monotonic_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to this frame's own value.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}
