//! The supervisor of one attempt: prepares its files, starts its process group, waits for its end, kills what
//! is left of the group, and cleans up.

use super::context::AttemptContext;
use super::environment::{self, AttemptPaths};
use super::output::OutputWriter;
use crate::machine::AgentInput;
use muster_protocol::bus::{Launch, Stream};
use muster_protocol::codec;
use muster_protocol::outcome::{Failed, Outcome, Reason, Succeeded};
use muster_protocol::spec::OnPartition;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
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

/// How long output is read after the end of the process group: a process that left the group may keep the
/// pipe open.
const LAST_OUTPUT_MAX: Duration = Duration::from_secs(1);
/// When SIGKILL comes; `None`: the attempt was not told to end.
type KillAt = watch::Receiver<Option<Instant>>;

/// Runs an attempt from its start to its end, and tells the agent how it ended.
pub(super) async fn supervise(context: Arc<AttemptContext>, launch: Launch, kill_at: KillAt) {
    let begun = Instant::now();
    let attempt = launch.attempt;
    let paths = context.paths(attempt);
    context.ended.reuse(&paths);
    let outcome = match prepare(&launch, &paths) {
        Ok(listener) => run(&context, &launch, &paths, listener, kill_at).await,
        Err(error) => not_started(format!("prepare {}: {error}", paths.directory.display())),
    };
    let run_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    context.remove_output(attempt);
    tracing::info!(%attempt, outcome = outcome.word(), why = outcome.message(), run_ms, "an attempt ended");
    // The agent is gone only when the program ends.
    let _ = context.inputs.send(AgentInput::Exited { attempt, outcome, run_ms }).await;
    context.ended.retire(&paths).await;
}

fn not_started(message: String) -> Outcome {
    Outcome::NotStarted(Reason { message })
}

fn prepare(launch: &Launch, paths: &AttemptPaths) -> io::Result<UnixListener> {
    // Another cluster of the same name may have used this directory.
    for stale in [fs::remove_dir_all(&paths.directory), fs::remove_file(&paths.socket)] {
        stale.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    }
    fs::create_dir_all(&paths.scratch)?;
    fs::write(&paths.launch, codec::seal(launch))?;
    if let Some(parent) = paths.socket.parent() {
        fs::create_dir_all(parent)?;
    }
    UnixListener::bind(&paths.socket)
}

async fn run(
    context: &AttemptContext,
    launch: &Launch,
    paths: &AttemptPaths,
    listener: UnixListener,
    kill_at: KillAt,
) -> Outcome {
    let Some(command) = environment::command(launch, paths, &context.env) else {
        return Outcome::Succeeded(Succeeded::default());
    };
    if kill_at.borrow().is_some() {
        return Outcome::Lost(Reason { message: "it was ended before it started".to_string() });
    }
    let for_message = without_arguments(&command);
    let mut child = match context.spawner.spawn(command).await {
        Ok(child) => child,
        Err(error) => return not_started(environment::why_not_started(&error, &for_message)),
    };
    let group = Pid::from_child(&child);
    context.reaper().watch(group, launch.on_partition == OnPartition::Stop);
    tracing::info!(attempt = %launch.attempt, pid = child.id(), "an attempt has started");
    let mut stdout = OutputWriter::new(&paths.directory, Stream::Stdout);
    let mut stderr = OutputWriter::new(&paths.directory, Stream::Stderr);
    context.add_output(launch.attempt, [stdout.watch(), stderr.watch()]);
    let pipes = (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
    // The agent is gone only when the program ends.
    let _ = context.inputs.send(AgentInput::Started { attempt: launch.attempt, pid: child.id() }).await;

    let status = {
        let output = async { tokio::join!(drain(&mut stdout, pipes.0), drain(&mut stderr, pipes.1)) };
        let serve = context.socket.serve(launch.attempt, listener);
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
        // The group's leader has ended but is not yet reaped, so its id cannot have been reused. Nothing of
        // the group may stay.
        let _ = kill_process_group(group, Signal::KILL);
        let status = child.wait();
        context.reaper().release(group);
        if !drained {
            // After this time, only a process that left the group can hold a pipe.
            let _ = timeout(LAST_OUTPUT_MAX, output).await;
        }
        ended.and(status)
    };
    stdout.close();
    outcome(status, &stderr.close())
}

/// A copy for an error message, since the command itself is moved.
fn without_arguments(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    if let Some(cwd) = command.get_current_dir() {
        copy.current_dir(cwd);
    }
    copy
}

async fn drain(writer: &mut OutputWriter, pipe: Option<OwnedFd>) {
    let Some(pipe) = pipe else { return };
    match pipe::Receiver::from_owned_fd(pipe) {
        Ok(pipe) => writer.drain(pipe).await,
        Err(error) => tracing::error!(%error, "cannot read the output of an attempt"),
    }
}

/// Returns once the group's leader has ended, without reaping it; signals the group when told to.
async fn until_ended(child: &Child, group: Pid, mut kill_at: KillAt) -> io::Result<()> {
    let leader = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    #[expect(unsafe_code, reason = "tokio requires that the descriptor stays open while it is registered")]
    // SAFETY: `AsyncFd` owns the descriptor from here on, and deregisters before it closes it.
    let leader = unsafe { AsyncFd::register_with_interest(leader, Interest::READABLE) }?;
    let mut terminated = false;
    let mut killed = false;
    loop {
        let at = *kill_at.borrow_and_update();
        if let Some(at) = at {
            // The signal fails if the group has just ended.
            if at <= Instant::now() {
                let _ = kill_process_group(group, Signal::KILL);
                killed = true;
            } else if !std::mem::replace(&mut terminated, true) {
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
                    // The agent is gone, so the worker ends.
                    let _ = kill_process_group(group, Signal::KILL);
                    killed = true;
                }
            }
        }
    }
}

fn outcome(status: io::Result<ExitStatus>, last_line: &str) -> Outcome {
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
    let message = if last_line.is_empty() { how } else { format!("{how}: {last_line}") };
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
