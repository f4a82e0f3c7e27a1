//! What goes into an agent, and what comes out of it.

use muster_protocol::attempt_call::{AgentFrame, AttemptFrame, Taken};
use muster_protocol::bus::{DownEnvelope, EndTail, Launch, Tail, Up};
use muster_protocol::ids::AttemptId;
use muster_protocol::outcome::Outcome;
use muster_protocol::rejection::Detail;
use muster_protocol::worker::WorkerHello;

/// An agent's settings.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Messages of other clusters are dropped.
    pub cluster: String,
    pub hello: WorkerHello,
    /// How long a drain waits for running attempts before it ends them.
    pub drain_ms: u64,
}

/// How busy the machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// In thousandths of one CPU.
    pub cpu_milli: u32,
    /// Memory in use.
    pub memory_mib: u32,
}

#[derive(Clone, Debug)]
pub enum AgentInput {
    /// Time has passed; comes about every 50 ms.
    Tick,
    /// The newest load; goes out with the next heartbeat.
    Load(Load),
    /// A message from the leader, or from a deposed one.
    Down(Box<DownEnvelope>),
    /// An attempt's process runs.
    Started { attempt: AttemptId, pid: u32 },
    /// An attempt ended, or could not start; no process of it is left.
    Exited { attempt: AttemptId, outcome: Outcome, run_ms: u64 },
    /// A frame from an attempt's process. `caller` identifies the connection, and comes back with the
    /// [`Action::Reply`]; the connection's next frame comes only after that.
    Frame { attempt: AttemptId, caller: u64, frame: AttemptFrame },
    /// Take no new work, wait for running attempts, then [`Action::Exit`].
    Drain,
    /// End running attempts at once, then [`Action::Exit`].
    Shutdown,
    /// The bus is connected again: messages sent before may be lost.
    Reconnected,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish this on the bus.
    Send(Up),
    /// Start this attempt; [`AgentInput::Started`] and [`AgentInput::Exited`] follow, or `Exited` alone.
    Start(Box<Launch>),
    /// SIGTERM to the attempt's process group now, SIGKILL after the grace; 0: SIGKILL at once. A later
    /// signal can only shorten the grace.
    Signal {
        attempt: AttemptId,
        grace_ms: u64,
    },
    /// Answer an attempt's frame.
    Reply {
        caller: u64,
        frame: AgentFrame,
    },
    /// Begin a tail of an attempt's output, or give it more credit, or keep it alive. `alive`: the attempt is
    /// queued or runs here, so more output may come.
    Tail {
        tail: Tail,
        alive: bool,
    },
    EndTail(EndTail),
    /// The lease holds for this long from now: attempts with `OnPartition::Stop` must be dead by then, even
    /// if the agent hangs.
    Lease {
        remaining_ms: u64,
    },
    /// The drain is complete: end the program.
    Exit,
}

impl Action {
    /// Tells a connection that its frame was taken.
    pub(super) fn accept(caller: u64) -> Action {
        Action::Reply { caller, frame: AgentFrame::Taken(Taken {}) }
    }

    /// Tells a connection that its frame was refused, and why.
    pub(super) fn refuse(caller: u64, message: String) -> Action {
        Action::Reply { caller, frame: AgentFrame::Refused(Detail { message }) }
    }
}
