//! One attempt's life as processes: prepared, started, watched, ended as a group, and cleaned up.

use super::Shared;
use super::environment::{self, Places};
use super::output::Writer;
use crate::agent::Input;
use muster_protocol::bus::{Launch, Stream};
use muster_protocol::codec;
use muster_protocol::outcome::{Failed, Outcome, Reason, Succeeded};
use muster_protocol::spec::OnPartition;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// After an attempt's group is gone, its output is read for so long at most: a process that left the group
/// may hold the pipe.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// The kernel's limit for the path of a socket, with room for its end.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// When an attempt is to be killed; `None`: it is not being ended.
pub(crate) type KillAt = watch::Receiver<Option<Instant>>;

/// Lives an attempt's life, and tells the agent how it ended.
pub(crate) async fn supervise(shared: Arc<Shared>, launch: Launch, kill_at: KillAt) {
    let begun = Instant::now();
    let attempt = launch.attempt;
    let places = shared.places(attempt);
    shared.unshelve(&places);
    let outcome = match prepare(&launch, &places) {
        Ok(listener) => live(&shared, &launch, &places, listener, kill_at).await,
        Err(error) => not_started(format!("prepare {}: {error}", places.directory.display())),
    };
    let run_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    shared.forget_output(attempt);
    tracing::info!(%attempt, outcome = outcome.word(), why = outcome.message(), run_ms, "an attempt ended");
    // The agent is gone only when the program ends.
    let _ = shared.inputs.send(Input::Exited { attempt, outcome, run_ms }).await;
    shared.shelve(&places).await;
}

fn not_started(message: String) -> Outcome {
    Outcome::NotStarted(Reason { message })
}

fn prepare(launch: &Launch, places: &Places) -> io::Result<UnixListener> {
    // Another cluster of the same name may have had an attempt of this name here.
    for stale in [fs::remove_dir_all(&places.directory), fs::remove_file(&places.socket)] {
        stale.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    }
    fs::create_dir_all(&places.scratch)?;
    fs::write(&places.launch, codec::seal(launch))?;
    if let Some(parent) = places.socket.parent() {
        fs::create_dir_all(parent)?;
    }
    UnixListener::bind(&places.socket)
}

/// Where an attempt's socket lies: with its other things, unless the path would be too long for a socket.
pub(crate) fn socket_path(directory: &Path, fallback: &Path, name: &str) -> std::path::PathBuf {
    let path = directory.join("socket");
    if path.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX { path } else { fallback.join(name) }
}

async fn live(
    shared: &Shared,
    launch: &Launch,
    places: &Places,
    listener: UnixListener,
    kill_at: KillAt,
) -> Outcome {
    let Some(command) = environment::command(launch, places, &shared.surroundings) else {
        return Outcome::Succeeded(Succeeded::default());
    };
    if kill_at.borrow().is_some() {
        return Outcome::Lost(Reason { message: "it was ended before it started".to_string() });
    }
    let for_message = described(&command);
    let mut child = match shared.spawner.spawn(command).await {
        Ok(child) => child,
        Err(error) => return not_started(environment::why_not_started(&error, &for_message)),
    };
    let group = Pid::from_child(&child);
    shared.warden().guard(group, launch.on_partition == OnPartition::Stop);
    tracing::info!(attempt = %launch.attempt, pid = child.id(), "an attempt runs");
    let mut stdout = Writer::new(&places.directory, Stream::Stdout);
    let mut stderr = Writer::new(&places.directory, Stream::Stderr);
    shared.remember_output(launch.attempt, [stdout.watch(), stderr.watch()]);
    let pipes = (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
    // The agent is gone only when the program ends.
    let _ = shared.inputs.send(Input::Started { attempt: launch.attempt, pid: child.id() }).await;

    let status = {
        let output = async { tokio::join!(drain(&mut stdout, pipes.0), drain(&mut stderr, pipes.1)) };
        let serve = shared.callers.serve(launch.attempt, listener);
        tokio::pin!(output, serve);
        let mut drained = false;
        let ended = {
            let ended = until_ended(&child, group, kill_at);
            tokio::pin!(ended);
            loop {
                tokio::select! {
                    result = &mut ended => break result,
                    _ = &mut output, if !drained => drained = true,
                    () = &mut serve => {}
                }
            }
        };
        // Its leader has ended but is not yet reaped, so the group's number is still its own: nothing of it
        // may stay.
        let _ = kill_process_group(group, Signal::KILL);
        let status = child.wait();
        shared.warden().release(group);
        if !drained {
            // What is still open then belongs to a process that has left the group.
            let _ = timeout(LAST_OUTPUT, output).await;
        }
        ended.and(status)
    };
    stdout.close();
    outcome(status, &stderr.close())
}

/// What is needed of a command for a message, after it has been given away.
fn described(command: &Command) -> Command {
    let mut described = Command::new(command.get_program());
    if let Some(cwd) = command.get_current_dir() {
        described.current_dir(cwd);
    }
    described
}

async fn drain(writer: &mut Writer, pipe: Option<OwnedFd>) {
    let Some(pipe) = pipe else { return };
    match pipe::Receiver::from_owned_fd(pipe) {
        Ok(pipe) => writer.drain(pipe).await,
        Err(error) => tracing::error!(%error, "cannot read the output of an attempt"),
    }
}

/// Returns once the group's leader has ended, which is not yet reaped then; ends the group when it is told
/// to.
async fn until_ended(child: &Child, group: Pid, mut kill_at: KillAt) -> io::Result<()> {
    let leader = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    #[expect(
        unsafe_code,
        reason = "tokio asks for the promise that the descriptor stays open while it is registered"
    )]
    // SAFETY: `AsyncFd` owns the descriptor from here on, and deregisters before it closes it.
    let leader = unsafe { AsyncFd::register_with_interest(leader, Interest::READABLE) }?;
    let mut asked = false;
    let mut killed = false;
    loop {
        let at = *kill_at.borrow_and_update();
        if let Some(at) = at {
            // It may have ended just now; then there is nobody to signal.
            if at <= Instant::now() {
                let _ = kill_process_group(group, Signal::KILL);
                killed = true;
            } else if !std::mem::replace(&mut asked, true) {
                let _ = kill_process_group(group, Signal::TERM);
            }
        }
        let kill = async {
            match at.filter(|_| !killed) {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = leader.readable() => return ready.map(drop),
            () = kill => {}
            changed = kill_at.changed(), if !killed => {
                if changed.is_err() {
                    // The one who could end it is gone: so is the worker.
                    let _ = kill_process_group(group, Signal::KILL);
                    killed = true;
                }
            }
        }
    }
}

fn outcome(status: io::Result<ExitStatus>, last_words: &str) -> Outcome {
    let status = match status {
        Ok(status) if status.success() => return Outcome::Succeeded(Succeeded::default()),
        Ok(status) => status,
        Err(error) => {
            return Outcome::Lost(Reason { message: format!("its worker lost sight of it: {error}") });
        }
    };
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by {}", signal_name(signal)),
        (None, None) => status.to_string(),
    };
    let message = if last_words.is_empty() { how } else { format!("{how}: {last_words}") };
    Outcome::Failed(Failed { exit_code: status.code(), signal: status.signal(), message })
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        other => return format!("signal {other}"),
    };
    name.to_string()
}
