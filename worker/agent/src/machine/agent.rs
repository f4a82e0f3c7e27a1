//! The agent: one incarnation of a worker, between the leader and the attempts.

use super::attempt_table::{AttemptTable, lost};
use super::drain::Drain;
use super::input::{Action, AgentConfig, AgentInput};
use super::lease::{Due, Lease, MessageOrigin};
use super::pending_calls::PendingCalls;
use super::progress_waiters::ProgressWaiters;
use super::send_window::WindowBatch;
use muster_protocol::attempt_call::{AttemptFrame, SetOutput, WriteRecord};
use muster_protocol::bus::{Ack, Down, DownEnvelope, Draining, Held, Progress, Reports, Up};
use muster_protocol::ids::{AttemptId, WorkerId};
use muster_protocol::limits::{NAME_BYTES_MAX, PROGRESS_BODY_BYTES_MAX};
use muster_protocol::worker::ProgressRecord;

#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    lease: Lease,
    attempts: AttemptTable,
    progress_waiters: ProgressWaiters,
    calls: PendingCalls,
    drain: Drain,
    /// Messages of deposed leaders, other clusters or other incarnations.
    ignored: u64,
}

/// For status lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentStatus {
    /// `None` while the worker is not registered.
    pub worker: Option<WorkerId>,
    /// Messages of deposed leaders, other clusters or other incarnations.
    pub ignored: u64,
    /// Messages that the leader sent and that did not arrive.
    pub missed: u64,
    /// Attempts that the agent holds.
    pub held: usize,
    pub lease_holds: bool,
}

impl Agent {
    /// An agent that holds nothing and is not registered.
    pub fn new(config: AgentConfig) -> Agent {
        Agent {
            attempts: AttemptTable::new(config.hello.capacity.clone()),
            config,
            lease: Lease::default(),
            progress_waiters: ProgressWaiters::default(),
            calls: PendingCalls::default(),
            drain: Drain::NotDraining,
            ignored: 0,
        }
    }

    /// Takes one input; the driver performs the actions in order.
    pub fn handle(&mut self, now_ms: u64, input: AgentInput, out: &mut dyn FnMut(Action)) {
        match input {
            AgentInput::Tick => {
                if !self.lease.holds(now_ms) {
                    self.attempts.fence(now_ms, out);
                }
                self.advance_drain(now_ms, out);
            }
            AgentInput::Load(load) => self.lease.load = load,
            AgentInput::Down(envelope) => self.receive(now_ms, *envelope, out),
            AgentInput::Started { attempt, pid } => self.attempts.started(attempt, pid),
            AgentInput::Exited { attempt, outcome, run_ms } => {
                if self.attempts.exited(attempt, outcome, run_ms) {
                    self.calls.forget(attempt);
                    self.start_queued(now_ms, out);
                }
            }
            AgentInput::Frame { attempt, caller, frame } => self.frame(now_ms, attempt, caller, frame, out),
            AgentInput::Drain => self.begin_drain(now_ms, out),
            AgentInput::Shutdown => {
                self.begin_drain(now_ms, out);
                if self.drain.cut_short() {
                    self.attempts.end_running(now_ms, &lost("its worker was ended"), |_| 0, out);
                }
            }
            AgentInput::Reconnected => {
                self.lease.reconnected();
                self.resend_all();
            }
        }
    }

    /// Sends what has gathered. The driver calls this when no input is left, before it waits for the next: so
    /// one message carries many reports.
    pub fn settle(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        match self.lease.due(now_ms) {
            Due::Nothing => {}
            Due::Hello => {
                self.lease.hello_sent(now_ms);
                out(Action::Send(Up::Hello(self.config.hello.clone())));
            }
            Due::Heartbeat => {
                let held = self.held();
                out(Action::Send(Up::Heartbeat(self.lease.heartbeat(now_ms, held))));
                self.send_draining(out);
            }
        }
        // A leader that does not know this worker would drop all of it.
        if self.lease.worker().is_some() {
            while let Some(WindowBatch { first_seq, oldest_unacked, items }) =
                self.attempts.progress.next(now_ms)
            {
                out(Action::Send(Up::Progress(Progress { first_seq, oldest_unacked, records: items })));
            }
            while let Some(WindowBatch { first_seq, oldest_unacked, items }) =
                self.attempts.reports.next(now_ms)
            {
                out(Action::Send(Up::Reports(Reports { first_seq, oldest_unacked, reports: items })));
            }
            self.calls.send_due(now_ms, out);
        }
        let flushed = self.attempts.is_flushed() || self.lease.worker().is_none();
        if self.drain.must_exit(now_ms, self.attempts.len() == 0, flushed) {
            out(Action::Exit);
        }
    }

    pub fn status(&self, now_ms: u64) -> AgentStatus {
        AgentStatus {
            worker: self.lease.worker(),
            ignored: self.ignored,
            missed: self.lease.missed,
            held: self.attempts.len(),
            lease_holds: self.lease.holds(now_ms),
        }
    }

    /// The attempts that it holds, and those whose end is not acknowledged.
    pub fn held(&self) -> Vec<Held> {
        self.attempts.held()
    }

    fn receive(&mut self, now_ms: u64, envelope: DownEnvelope, out: &mut dyn FnMut(Action)) {
        if envelope.cluster != self.config.cluster || envelope.boot != self.config.hello.boot {
            self.ignored += 1;
            return;
        }
        match self.lease.received(envelope.term) {
            MessageOrigin::Deposed => {
                self.ignored += 1;
                return;
            }
            MessageOrigin::NewLeader => self.resend_all(),
            MessageOrigin::Leader => {}
        }
        match envelope.message {
            Down::Welcome(welcome) => {
                self.lease.welcomed(welcome.worker);
                self.publish_lease(now_ms, out);
            }
            Down::HeartbeatAck(ack) => {
                self.lease.acknowledged(now_ms, ack);
                self.publish_lease(now_ms, out);
            }
            Down::SayHello(_) => self.lease.unknown(now_ms),
            // Without a lease the leader may have given this worker up; it sends the launches again once it
            // has received a heartbeat.
            Down::Run(_) if !self.lease.holds(now_ms) => {}
            Down::Run(run) => {
                self.attempts.enqueue_new(run.launches, self.drain.is_on());
                self.start_queued(now_ms, out);
            }
            Down::Stop(stop) => {
                if self.attempts.stop(now_ms, stop, out) {
                    self.start_queued(now_ms, out);
                }
            }
            Down::Ack(ack) => self.acknowledged(now_ms, ack, out),
            Down::Answer(answer) => self.calls.answer(answer, out),
            Down::Tail(tail) => {
                let alive = self.attempts.contains(tail.attempt);
                out(Action::Tail { tail, alive });
            }
            Down::EndTail(end) => out(Action::EndTail(end)),
        }
    }

    fn publish_lease(&self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        out(Action::Lease { remaining_ms: self.lease.remaining_ms(now_ms) });
    }

    fn acknowledged(&mut self, now_ms: u64, ack: Ack, out: &mut dyn FnMut(Action)) {
        self.attempts.ack_reports(now_ms, ack.reports);
        self.attempts.progress.ack(now_ms, ack.progress);
        self.progress_waiters.acknowledged(&self.attempts.progress, out);
        self.attempts.report_deferred();
        self.start_queued(now_ms, out);
    }

    fn start_queued(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        self.attempts.start_queued(self.lease.holds(now_ms), out);
    }

    /// There is a new leader, or the last messages may be lost.
    fn resend_all(&mut self) {
        self.attempts.reports.rewind();
        self.attempts.progress.rewind();
        self.calls.resend_all();
    }

    fn frame(
        &mut self,
        now_ms: u64,
        attempt: AttemptId,
        caller: u64,
        frame: AttemptFrame,
        out: &mut dyn FnMut(Action),
    ) {
        let Some(held) = self.attempts.running(attempt) else {
            out(Action::refuse(caller, format!("{attempt} does not run here any more")));
            return;
        };
        match frame {
            AttemptFrame::Record(record) => match check(&record) {
                Err(message) => out(Action::refuse(caller, message)),
                Ok(()) => {
                    let WriteRecord { key, seq, payload_hash, body, wait } = record;
                    let record = ProgressRecord { attempt, key, seq, payload_hash, body };
                    let number = self.attempts.push_progress(record);
                    self.progress_waiters.answer(number, caller, wait, &self.attempts.progress, out);
                }
            },
            AttemptFrame::Output(SetOutput { output }) if output.len() > PROGRESS_BODY_BYTES_MAX => {
                let message =
                    format!("an output has at most {PROGRESS_BODY_BYTES_MAX} bytes, not {}", output.len());
                out(Action::refuse(caller, message));
            }
            AttemptFrame::Output(SetOutput { output }) => {
                held.output = output;
                out(Action::accept(caller));
            }
            AttemptFrame::Ask(ask) => self.calls.ask(now_ms, attempt, caller, ask, out),
        }
    }

    fn begin_drain(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        if self.drain.begin(now_ms.saturating_add(self.config.drain_ms)) {
            self.send_draining(out);
            self.attempts.end_queued(&lost("its worker drains"));
            self.advance_drain(now_ms, out);
        }
    }

    fn advance_drain(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        if self.drain.wait_is_over(now_ms) {
            let outcome = lost("its worker was ended");
            self.attempts.end_running(now_ms, &outcome, |launch| launch.grace_ms, out);
        }
    }

    /// Sent with every heartbeat, since it is never acknowledged.
    fn send_draining(&self, out: &mut dyn FnMut(Action)) {
        if self.drain.is_on() && self.lease.worker().is_some() {
            out(Action::Send(Up::Draining(Draining {})));
        }
    }
}

fn check(record: &WriteRecord) -> Result<(), String> {
    if record.key.is_empty() || record.key.len() > NAME_BYTES_MAX {
        return Err(format!("a key has 1 to {NAME_BYTES_MAX} bytes, not {}", record.key.len()));
    }
    if record.body.len() > PROGRESS_BODY_BYTES_MAX {
        return Err(format!("a body has at most {PROGRESS_BODY_BYTES_MAX} bytes, not {}", record.body.len()));
    }
    Ok(())
}
