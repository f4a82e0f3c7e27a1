//! What goes into an agent, and what comes out of it.

use muster_protocol::attempt_call::{AgentFrame, AttemptFrame};
use muster_protocol::bus::{DownEnvelope, EndTail, Launch, Tail, Up};
use muster_protocol::ids::AttemptId;
use muster_protocol::outcome::Outcome;
use muster_protocol::worker::WorkerHello;

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The cluster's name: another cluster's messages are dropped.
    pub cluster: String,
    /// How it introduces itself.
    pub hello: WorkerHello,
    /// How long it waits for what runs when it drains.
    pub drain_ms: u64,
}

/// How busy the machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Busy CPU, in thousandths of one CPU.
    pub cpu_milli: u32,
    /// Memory in use.
    pub memory_mib: u32,
}

/// What an agent hears.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed: every 50 ms or so.
    Tick,
    /// The machine is that busy; goes out with heartbeats.
    Load(Load),
    /// The leader, or one who was it, said this.
    Down(Box<DownEnvelope>),
    /// An attempt's process runs.
    Started {
        /// Which.
        attempt: AttemptId,
        /// Its process id.
        pid: u32,
    },
    /// An attempt ended, or did not start; nothing of it is left.
    Exited {
        /// Which.
        attempt: AttemptId,
        /// How, as the driver saw it.
        outcome: Outcome,
        /// How long it ran.
        run_ms: u64,
    },
    /// An attempt's process said this. The next frame of the same caller comes after the [`Action::Reply`].
    Frame {
        /// Which.
        attempt: AttemptId,
        /// The driver's name for the connection; comes back with the reply.
        caller: u64,
        /// What it said.
        frame: AttemptFrame,
    },
    /// Take no new work, wait for what runs, then [`Action::Exit`].
    Drain,
    /// End what runs at once, then [`Action::Exit`].
    Hurry,
    /// The bus is there again: what was said meanwhile may be lost.
    Reconnected,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Say this on the bus.
    Send(Up),
    /// Start this attempt; answered by [`Input::Started`] and [`Input::Exited`], or by the latter alone.
    Start(Box<Launch>),
    /// SIGTERM to the attempt's processes now, SIGKILL after the grace; 0: SIGKILL at once. A later one can
    /// only shorten it.
    Signal {
        /// Whose.
        attempt: AttemptId,
        /// From SIGTERM to SIGKILL.
        grace_ms: u64,
    },
    /// Answer an attempt's frame.
    Reply {
        /// The connection it came from.
        caller: u64,
        /// The answer.
        frame: AgentFrame,
    },
    /// Begin a tail of an attempt's output, or give it more credit, or keep it alive.
    Tail {
        /// What was asked for.
        tail: Tail,
        /// More output may come: the attempt waits or runs here.
        alive: bool,
    },
    /// End a tail.
    EndTail(EndTail),
    /// The lease holds for so long from now: attempts with `OnPartition::Stop` must be dead by then, even if
    /// the agent is not heard of.
    Lease {
        /// How long.
        remaining_ms: u64,
    },
    /// All is done: end the program.
    Exit,
}
