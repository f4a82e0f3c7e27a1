//! Workers: their agents and their attempts.

use super::{Event, TICK_MS, World};
use crate::sim::execution::{Execution, ExecutionStep};
use crate::sim::invariants::{never_oversubscribed, single_copy};
use muster_agent::machine::{Action, AgentInput};
use muster_protocol::attempt_call::AgentFrame;
use muster_protocol::bus::Launch;
use muster_protocol::ids::AttemptId;
use muster_protocol::outcome::{Failed, Outcome};
use muster_protocol::spec::OnPartition;
use rand::RngExt;

const SIGKILL: i32 = 9;

impl World {
    pub(super) fn start_agent(&mut self, node: usize) {
        if self.workers[node].is_running() {
            return;
        }
        self.workers[node].start(self.now_ms, &mut self.random);
        let incarnation = self.workers[node].incarnation;
        let boot = self.workers[node].boot;
        self.log(format_args!("w{} starts as {boot}", node + 1));
        self.at(0, Event::AgentTick { node, incarnation });
    }

    pub(super) fn crash_agent(&mut self, node: usize) {
        if self.workers[node].is_running() {
            self.log(format_args!("w{} is killed", node + 1));
            self.stats.crashes += 1;
            self.workers[node].crash();
        }
    }

    pub(super) fn agent_tick(&mut self, node: usize, incarnation: u32) {
        if self.workers[node].incarnation == incarnation && self.workers[node].is_running() {
            self.at(TICK_MS, Event::AgentTick { node, incarnation });
            self.deliver_to_agent(node, AgentInput::Tick);
        }
    }

    /// Passes an input to an agent, or keeps it while the agent hangs, and performs the actions.
    pub(super) fn deliver_to_agent(&mut self, node: usize, input: AgentInput) {
        let worker = &mut self.workers[node];
        worker.inbox.push(input);
        if worker.paused_until > self.now_ms {
            return;
        }
        let inputs = std::mem::take(&mut worker.inbox);
        let mut actions = Vec::new();
        worker.handle(self.now_ms, inputs, &mut |action| actions.push(action));
        for action in actions {
            self.act(node, action);
        }
    }

    fn act(&mut self, node: usize, action: Action) {
        match action {
            Action::Send(message) => self.send_up(node, message),
            Action::Start(launch) => self.start_execution(node, launch),
            Action::Signal { attempt, grace_ms } => self.signal(node, attempt, grace_ms),
            Action::Reply { caller, frame } => self.reply(node, caller, frame),
            Action::Lease { remaining_ms } => {
                let incarnation = self.workers[node].incarnation;
                self.workers[node].lease_until = self.now_ms + remaining_ms;
                self.at(remaining_ms, Event::Lease { node, incarnation });
            }
            Action::Tail { .. } | Action::EndTail(_) => {}
            Action::Exit => self.crash_agent(node),
        }
    }

    fn start_execution(&mut self, node: usize, launch: Box<Launch>) {
        let attempt = launch.attempt;
        self.log(format_args!("w{} starts {attempt}", node + 1));
        if self.workers[node].executions.contains_key(&attempt) {
            self.fail("single copy", format!("{attempt} is started twice by one agent"));
            return;
        }
        let result = single_copy(&self.workers, attempt);
        self.check(result);
        let execution = Execution::new(launch, self.now_ms, &mut self.random);
        self.workers[node].executions.insert(attempt, execution);
        let result = never_oversubscribed(&self.workers[node]);
        self.check(result);
        let starts_in = self.random.random_range(1..15);
        self.at(starts_in, Event::Execution { node, attempt, turn: 0, answer: None });
    }

    pub(super) fn execution_step(
        &mut self,
        node: usize,
        attempt: AttemptId,
        turn: u64,
        answer: Option<AgentFrame>,
    ) {
        let Some(execution) =
            self.workers[node].executions.get_mut(&attempt).filter(|execution| execution.turn == turn)
        else {
            return;
        };
        let step = execution.next(answer);
        let turn = execution.turn;
        if turn == 1 {
            let pid = self.random.random_range(1_000..60_000);
            self.deliver_to_agent(node, AgentInput::Started { attempt, pid });
        }
        match step {
            ExecutionStep::Wait(ms) => self.at(ms, Event::Execution { node, attempt, turn, answer: None }),
            ExecutionStep::Send(frame) => {
                let caller = self.caller(node, attempt);
                self.deliver_to_agent(node, AgentInput::Frame { attempt, caller, frame });
            }
            ExecutionStep::End(outcome) => self.end_execution(node, attempt, outcome),
        }
    }

    /// The id of an attempt's connection.
    fn caller(&self, node: usize, attempt: AttemptId) -> u64 {
        let AttemptId { task, epoch } = attempt;
        (node as u64) << 56 | task.job.0 << 40 | u64::from(task.index) << 16 | u64::from(epoch)
    }

    fn reply(&mut self, node: usize, caller: u64, frame: AgentFrame) {
        let attempt = self.workers[node]
            .executions
            .keys()
            .copied()
            .find(|attempt| self.caller(node, *attempt) == caller);
        // Its process may be gone.
        let Some(attempt) = attempt else { return };
        let turn = self.workers[node].executions[&attempt].turn;
        self.at(1, Event::Execution { node, attempt, turn, answer: Some(frame) });
    }

    fn end_execution(&mut self, node: usize, attempt: AttemptId, outcome: Outcome) {
        let Some(execution) = self.workers[node].executions.remove(&attempt) else { return };
        self.log(format_args!("w{}: {attempt} ended: {}", node + 1, outcome.word()));
        if matches!(outcome, Outcome::Succeeded(_)) {
            self.oracle.live_attempt.process_succeeded(attempt);
        }
        let run_ms = self.now_ms - execution.started_ms;
        self.deliver_to_agent(node, AgentInput::Exited { attempt, outcome, run_ms });
    }

    fn signal(&mut self, node: usize, attempt: AttemptId, grace_ms: u64) {
        if grace_ms == 0 {
            self.kill_execution(node, attempt);
            return;
        }
        let dies_in = self.random.random_range(1..=grace_ms);
        self.at(dies_in, Event::Kill { node, attempt });
    }

    pub(super) fn kill_execution(&mut self, node: usize, attempt: AttemptId) {
        let killed = Failed { exit_code: None, signal: Some(SIGKILL), message: "killed".to_string() };
        self.end_execution(node, attempt, Outcome::Failed(killed));
    }

    /// What the process reaper does: kills the attempts that must not outlive the lease, even if the agent
    /// hangs.
    pub(super) fn expire_lease(&mut self, node: usize, incarnation: u32) {
        let worker = &self.workers[node];
        if worker.incarnation != incarnation || worker.lease_until > self.now_ms {
            return;
        }
        let outlived = worker
            .executions
            .iter()
            .filter(|(_, execution)| execution.launch.on_partition == OnPartition::Stop);
        let outlived: Vec<AttemptId> = outlived.map(|(attempt, _)| *attempt).collect();
        for attempt in outlived {
            self.log(format_args!("w{}: the lease of {attempt} has ended", node + 1));
            self.kill_execution(node, attempt);
        }
    }
}
