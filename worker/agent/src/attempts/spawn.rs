//! Starts processes from one thread that lives as long as the worker, because the kernel sends the
//! parent-death signal when the *thread* that forked ends.

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::{io, thread};
use tokio::sync::{mpsc, oneshot};

/// At most this many processes wait to be started.
const REQUESTS_MAX: usize = 1_024;

struct SpawnRequest {
    command: Command,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The thread that starts processes. When this is dropped, the thread ends and its processes are killed.
#[derive(Debug)]
pub(super) struct Spawner {
    requests: mpsc::Sender<SpawnRequest>,
}

impl Spawner {
    pub(super) fn start() -> io::Result<Spawner> {
        let (requests, mut pending) = mpsc::channel::<SpawnRequest>(REQUESTS_MAX);
        thread::Builder::new().name("spawner".to_string()).spawn(move || {
            while let Some(SpawnRequest { mut command, reply }) = pending.blocking_recv() {
                if let Err(Ok(mut orphan)) = reply.send(command.spawn()) {
                    // The caller is gone.
                    let _ = orphan.kill();
                    let _ = orphan.wait();
                }
            }
        })?;
        Ok(Spawner { requests })
    }

    /// Starts a process as the leader of its own process group. It dies with the worker.
    pub(super) async fn spawn(&self, mut command: Command) -> io::Result<Child> {
        let agent = getpid();
        command.process_group(0);
        #[expect(unsafe_code, reason = "two system calls between fork and exec, both allowed there")]
        // SAFETY: the closure allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                // The worker may have died before the signal was set.
                if getppid() == Some(agent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
            });
        }
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the worker ends");
        let (reply, started) = oneshot::channel();
        self.requests.send(SpawnRequest { command, reply }).await.map_err(|_| gone())?;
        started.await.map_err(|_| gone())?
    }
}
