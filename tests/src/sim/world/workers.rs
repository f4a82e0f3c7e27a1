//! Workers: what their agents do, and what becomes of their attempts.

use super::{Event, TICK_MS, World};
use crate::sim::execution::{Execution, Step};
use crate::sim::invariants::{never_oversubscribed, single_copy};
use muster_agent::agent::{Action, Input};
use muster_protocol::attempt_call::AgentFrame;
use muster_protocol::bus::Launch;
use muster_protocol::ids::AttemptId;
use muster_protocol::outcome::{Failed, Outcome};
use muster_protocol::spec::OnPartition;
use rand::RngExt;

const SIGKILL: i32 = 9;

impl World {
    pub(super) fn start_agent(&mut self, which: usize) {
        if self.workers[which].is_running() {
            return;
        }
        self.workers[which].start(self.now_ms, &mut self.random);
        let life = self.workers[which].life;
        let boot = self.workers[which].boot;
        self.say(format_args!("w{} starts as {boot}", which + 1));
        self.at(0, Event::AgentTick { which, life });
    }

    pub(super) fn crash_agent(&mut self, which: usize) {
        if self.workers[which].is_running() {
            self.say(format_args!("w{} is killed", which + 1));
            self.stats.crashes += 1;
            self.workers[which].crash();
        }
    }

    pub(super) fn agent_tick(&mut self, which: usize, life: u32) {
        if self.workers[which].life == life && self.workers[which].is_running() {
            self.at(TICK_MS, Event::AgentTick { which, life });
            self.tell_agent(which, Input::Tick);
        }
    }

    /// Gives an agent an input, or puts it before it while it hangs, and performs what comes of it.
    pub(super) fn tell_agent(&mut self, which: usize, input: Input) {
        let worker = &mut self.workers[which];
        worker.inbox.push(input);
        if worker.paused_until > self.now_ms {
            return;
        }
        let inputs = std::mem::take(&mut worker.inbox);
        let mut actions = Vec::new();
        worker.handle(self.now_ms, inputs, &mut |action| actions.push(action));
        for action in actions {
            self.act(which, action);
        }
    }

    fn act(&mut self, which: usize, action: Action) {
        match action {
            Action::Send(message) => self.send_up(which, message),
            Action::Start(launch) => self.start_execution(which, launch),
            Action::Signal { attempt, grace_ms } => self.signal(which, attempt, grace_ms),
            Action::Reply { caller, frame } => self.reply(which, caller, frame),
            Action::Lease { remaining_ms } => {
                let life = self.workers[which].life;
                self.workers[which].lease_until = self.now_ms + remaining_ms;
                self.at(remaining_ms, Event::Lease { which, life });
            }
            Action::Tail { .. } | Action::EndTail(_) => {}
            Action::Exit => self.crash_agent(which),
        }
    }

    fn start_execution(&mut self, which: usize, launch: Box<Launch>) {
        let attempt = launch.attempt;
        self.say(format_args!("w{} starts {attempt}", which + 1));
        if self.workers[which].executions.contains_key(&attempt) {
            self.fail("single copy", format!("{attempt} is started twice by one agent"));
            return;
        }
        let verdict = single_copy(&self.workers, attempt);
        self.hold(verdict);
        let execution = Execution::new(launch, self.now_ms, &mut self.random);
        self.workers[which].executions.insert(attempt, execution);
        let verdict = never_oversubscribed(&self.workers[which]);
        self.hold(verdict);
        let starts_in = self.random.random_range(1..15);
        self.at(starts_in, Event::Execution { which, attempt, turn: 0, answer: None });
    }

    pub(super) fn execution_goes_on(
        &mut self,
        which: usize,
        attempt: AttemptId,
        turn: u64,
        answer: Option<AgentFrame>,
    ) {
        let Some(execution) =
            self.workers[which].executions.get_mut(&attempt).filter(|execution| execution.turn == turn)
        else {
            return;
        };
        let step = execution.next(answer);
        let turn = execution.turn;
        if turn == 1 {
            let pid = self.random.random_range(1_000..60_000);
            self.tell_agent(which, Input::Started { attempt, pid });
        }
        match step {
            Step::Wait(ms) => self.at(ms, Event::Execution { which, attempt, turn, answer: None }),
            Step::Say(frame) => {
                let caller = self.caller(which, attempt);
                self.tell_agent(which, Input::Frame { attempt, caller, frame });
            }
            Step::End(outcome) => self.end_execution(which, attempt, outcome),
        }
    }

    /// A connection's name: the attempt's position among all that ever ran would do; its own numbers are
    /// enough.
    fn caller(&self, which: usize, attempt: AttemptId) -> u64 {
        let AttemptId { task, epoch } = attempt;
        (which as u64) << 56 | task.job.0 << 40 | u64::from(task.index) << 16 | u64::from(epoch)
    }

    fn reply(&mut self, which: usize, caller: u64, frame: AgentFrame) {
        let attempt = self.workers[which]
            .executions
            .keys()
            .copied()
            .find(|attempt| self.caller(which, *attempt) == caller);
        // Its process may be gone.
        let Some(attempt) = attempt else { return };
        let turn = self.workers[which].executions[&attempt].turn;
        self.at(1, Event::Execution { which, attempt, turn, answer: Some(frame) });
    }

    fn end_execution(&mut self, which: usize, attempt: AttemptId, outcome: Outcome) {
        let Some(execution) = self.workers[which].executions.remove(&attempt) else { return };
        self.say(format_args!("w{}: {attempt} ended: {}", which + 1, outcome.word()));
        if matches!(outcome, Outcome::Succeeded(_)) {
            self.oracle.live_attempt.really_succeeded(attempt);
        }
        let run_ms = self.now_ms - execution.began;
        self.tell_agent(which, Input::Exited { attempt, outcome, run_ms });
    }

    fn signal(&mut self, which: usize, attempt: AttemptId, grace_ms: u64) {
        if grace_ms == 0 {
            self.execution_is_killed(which, attempt);
            return;
        }
        let dies_in = self.random.random_range(1..=grace_ms);
        self.at(dies_in, Event::Kill { which, attempt });
    }

    pub(super) fn execution_is_killed(&mut self, which: usize, attempt: AttemptId) {
        let killed = Failed { exit_code: None, signal: Some(SIGKILL), message: "killed".to_string() };
        self.end_execution(which, attempt, Outcome::Failed(killed));
    }

    /// Whoever guards the processes kills those that may not outlive the lease, even if the agent hangs.
    pub(super) fn lease_may_end(&mut self, which: usize, life: u32) {
        let worker = &self.workers[which];
        if worker.life != life || worker.lease_until > self.now_ms {
            return;
        }
        let outlived = worker
            .executions
            .iter()
            .filter(|(_, execution)| execution.launch.on_partition == OnPartition::Stop);
        let outlived: Vec<AttemptId> = outlived.map(|(attempt, _)| *attempt).collect();
        for attempt in outlived {
            self.say(format_args!("w{}: the lease of {attempt} has ended", which + 1));
            self.execution_is_killed(which, attempt);
        }
    }
}
