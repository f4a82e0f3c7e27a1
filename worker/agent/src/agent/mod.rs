//! The agent: what a worker holds, what it says of it, and until when it may. A synchronous machine without
//! clock, IO or chance.
//!
//! Its one job is to turn what the leader and the attempts say into [`Action`]s, which its driver performs in
//! order. Its moments are milliseconds of one monotonic clock, whichever the driver has. It must never start
//! an attempt twice, nor let one outlive its lease.

mod calls;
mod drain;
mod frames;
mod held;
mod input;
mod lease;
mod lifecycle;
mod memory;
mod outbox;
mod room;
#[cfg(test)]
mod tests;

pub use input::{Action, AgentConfig, Input, Load};

use calls::Calls;
use drain::Drain;
use frames::Callers;
use held::Attempt;
use lease::{Due, Heard, Lease};
use lifecycle::Deferred;
use memory::Memory;
use muster_protocol::bus::{Ack, Down, DownEnvelope, Held, Phase, Progress, Reports, Up};
use muster_protocol::ids::{AttemptId, WorkerId};
use muster_protocol::worker::{ProgressRecord, Report, ReportKind};
use outbox::{Batch, Outbox};
use room::Room;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One life of a worker's agent.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    lease: Lease,
    attempts: BTreeMap<AttemptId, Attempt>,
    /// Those of them that wait for room, in the order in which they start.
    queue: VecDeque<AttemptId>,
    room: Room,
    /// Ended, and the report is not acknowledged.
    ended: BTreeSet<AttemptId>,
    /// Ended lately.
    memory: Memory,
    reports: Outbox<Report>,
    progress: Outbox<ProgressRecord>,
    /// Reports of ends that wait until the attempt's last progress is acknowledged.
    deferred: VecDeque<Deferred>,
    callers: Callers,
    calls: Calls,
    drain: Drain,
    ignored: u64,
}

/// What the agent noticed, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noticed {
    /// Under which id it is registered, if it is.
    pub worker: Option<WorkerId>,
    /// Messages of deposed leaders, other clusters or other lives: ignored.
    pub ignored: u64,
    /// Messages that the leader sent and that did not arrive.
    pub missed: u64,
    /// Attempts that it holds.
    pub held: usize,
    /// Whether its lease holds.
    pub lease: bool,
}

impl Agent {
    /// An agent that holds nothing and is not yet registered.
    pub fn new(config: AgentConfig, _now_ms: u64) -> Agent {
        Agent {
            room: Room::new(config.hello.capacity.clone()),
            config,
            lease: Lease::default(),
            attempts: BTreeMap::new(),
            queue: VecDeque::new(),
            ended: BTreeSet::new(),
            memory: Memory::default(),
            reports: Outbox::new(),
            progress: Outbox::new(),
            deferred: VecDeque::new(),
            callers: Callers::default(),
            calls: Calls::default(),
            drain: Drain::No,
            ignored: 0,
        }
    }

    /// Takes one input; the actions are to be performed in order.
    pub fn handle(&mut self, now_ms: u64, input: Input, out: &mut dyn FnMut(Action)) {
        match input {
            Input::Tick => {
                self.fence(now_ms, out);
                self.advance_drain(now_ms, out);
            }
            Input::Load(load) => self.lease.load = load,
            Input::Down(envelope) => self.hear(now_ms, *envelope, out),
            Input::Started { attempt, pid } => self.started(attempt, pid),
            Input::Exited { attempt, outcome, run_ms } => self.exited(now_ms, attempt, outcome, run_ms, out),
            Input::Frame { attempt, caller, frame } => self.frame(now_ms, attempt, caller, frame, out),
            Input::Drain => self.begin_drain(now_ms, out),
            Input::Hurry => self.hurry(now_ms, out),
            Input::Reconnected => {
                self.lease.reconnected();
                self.say_all_again();
            }
        }
    }

    /// Says what has gathered. To be called when no input is left, before waiting for the next: so one
    /// message carries many reports.
    pub fn settle(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        match self.lease.due(now_ms) {
            Due::Nothing => {}
            Due::Hello => {
                self.lease.said_hello(now_ms);
                out(Action::Send(Up::Hello(self.config.hello.clone())));
            }
            Due::Heartbeat => {
                let held = self.held();
                out(Action::Send(Up::Heartbeat(self.lease.heartbeat(now_ms, held))));
                self.repeat_draining(out);
            }
        }
        // A leader that does not know this life would drop all of it.
        if self.lease.worker().is_some() {
            while let Some(Batch { first_seq, oldest_unacked, items }) = self.progress.next(now_ms) {
                out(Action::Send(Up::Progress(Progress { first_seq, oldest_unacked, records: items })));
            }
            while let Some(Batch { first_seq, oldest_unacked, items }) = self.reports.next(now_ms) {
                out(Action::Send(Up::Reports(Reports { first_seq, oldest_unacked, reports: items })));
            }
            self.calls.say(now_ms, out);
        }
        self.exit_if_done(now_ms, out);
    }

    /// What it noticed, for people.
    pub fn noticed(&self, now_ms: u64) -> Noticed {
        Noticed {
            worker: self.lease.worker(),
            ignored: self.ignored,
            missed: self.lease.missed,
            held: self.attempts.len(),
            lease: self.lease.holds(now_ms),
        }
    }

    /// Every attempt that it holds, and those whose end is not acknowledged.
    pub fn held(&self) -> Vec<Held> {
        let held =
            self.attempts.iter().map(|(attempt, held)| Held { attempt: *attempt, phase: held.phase() });
        held.chain(self.ended.iter().map(|attempt| Held { attempt: *attempt, phase: Phase::Ended })).collect()
    }

    fn hear(&mut self, now_ms: u64, envelope: DownEnvelope, out: &mut dyn FnMut(Action)) {
        if envelope.cluster != self.config.cluster || envelope.boot != self.config.hello.boot {
            self.ignored += 1;
            return;
        }
        match self.lease.hear(envelope.term) {
            Heard::Deposed => {
                self.ignored += 1;
                return;
            }
            Heard::NewLeader => self.say_all_again(),
            Heard::Leader => {}
        }
        match envelope.message {
            Down::Welcome(welcome) => {
                self.lease.welcome(welcome.worker);
                self.tell_lease(now_ms, out);
            }
            Down::HeartbeatAck(ack) => {
                self.lease.acknowledged(now_ms, ack);
                self.tell_lease(now_ms, out);
            }
            Down::SayHello(_) => self.lease.unknown(now_ms),
            Down::Run(run) => self.run(now_ms, run, out),
            Down::Stop(stop) => self.stop(now_ms, stop, out),
            Down::Ack(ack) => self.acknowledged(now_ms, ack, out),
            Down::Answer(answer) => self.calls.answer(answer, out),
            Down::Tail(tail) => {
                let alive = self.attempts.contains_key(&tail.attempt);
                out(Action::Tail { tail, alive });
            }
            Down::EndTail(end) => out(Action::EndTail(end)),
        }
    }

    fn tell_lease(&self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        out(Action::Lease { remaining_ms: self.lease.remaining_ms(now_ms) });
    }

    fn acknowledged(&mut self, now_ms: u64, ack: Ack, out: &mut dyn FnMut(Action)) {
        for report in self.reports.ack(now_ms, ack.reports) {
            match report.what {
                ReportKind::Started(_) => {}
                ReportKind::Ended(_) => {
                    self.ended.remove(&report.attempt);
                }
            }
        }
        self.progress.ack(now_ms, ack.progress);
        self.callers.acknowledged(&self.progress, out);
        self.report_deferred();
        self.start_queued(now_ms, out);
    }

    /// There is a new leader, or the last messages may be lost.
    fn say_all_again(&mut self) {
        self.reports.rewind();
        self.progress.rewind();
        self.calls.say_again();
    }
}
