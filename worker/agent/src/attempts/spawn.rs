//! Starts processes from one thread that lives as long as the worker: a parent-death signal follows the death
//! of the *thread* that forked.

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::{io, thread};
use tokio::sync::{mpsc, oneshot};

/// Processes that wait to be started at most.
const QUEUE: usize = 1_024;

struct Request {
    command: Command,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The thread that starts processes. What it started is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Spawner> {
        let (requests, mut todo) = mpsc::channel::<Request>(QUEUE);
        thread::Builder::new().name("spawner".to_string()).spawn(move || {
            while let Some(Request { mut command, reply }) = todo.blocking_recv() {
                if let Err(Ok(mut orphan)) = reply.send(command.spawn()) {
                    // Nobody waits for it any more: it must not stay.
                    let _ = orphan.kill();
                    let _ = orphan.wait();
                }
            }
        })?;
        Ok(Spawner { requests })
    }

    /// Starts a process as the leader of a group of its own, that dies with the worker.
    pub(crate) async fn spawn(&self, mut command: Command) -> io::Result<Child> {
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
        self.requests.send(Request { command, reply }).await.map_err(|_| gone())?;
        started.await.map_err(|_| gone())?
    }
}
