//! Handles messages from workers at the leader.
//!
//! Messages may be lost, late, repeated or reordered. What goes into the log goes there at least once, and
//! the machine tolerates repeats; nothing is acknowledged before it is applied.

use crate::command_queue::{QueuedCommand, Waiter};
use crate::config::ReplicaConfig;
use crate::dispatcher;
use crate::io::Now;
use crate::leadership::{Leadership, envelope};
use crate::seq_window::Admission;
use crate::sessions::{Numbered, WorkerIncarnation};
use crate::worker_sender::WorkerSender;
use muster_machine::{State, Worker};
use muster_protocol::attempt_call::CallRequest;
use muster_protocol::bus::{
    AnswerTo, Call, Down, Heartbeat, HeartbeatAck, Progress, Reports, SayHello, Up, UpEnvelope, Welcome,
};
use muster_protocol::command::{
    AddTasks, Command, DrainWorker, RecordProgress, RegisterWorker, ReportAttempts, SealStage, SetLiveness,
};
use muster_protocol::limits::COMMIT_TIMEOUT_MS;
use muster_protocol::worker::{Liveness, WorkerHello};

/// A message's moment and sender, and what it is judged against.
struct Context<'a> {
    now: Now,
    config: &'a ReplicaConfig,
    state: &'a State,
    incarnation: WorkerIncarnation,
}

impl Leadership {
    pub(super) fn handle_worker_message(
        &mut self,
        now: Now,
        config: &ReplicaConfig,
        state: &State,
        up: UpEnvelope,
        sender: &mut WorkerSender<'_>,
    ) {
        let incarnation = WorkerIncarnation { identity: up.identity, boot: up.boot };
        if !self.has_taken_over() || self.sessions.is_retired(incarnation) {
            return;
        }
        let context = Context { now, config, state, incarnation };
        match up.message {
            Up::Hello(hello) => return self.hello(&context, hello, sender),
            Up::LogChunk(chunk) => return self.tails.chunk(now.mono_ms, chunk, &mut self.sessions, sender),
            Up::Heartbeat(_) | Up::Reports(_) | Up::Progress(_) | Up::Call(_) | Up::Draining(_) => {}
        }
        let known = state
            .worker_by_identity(incarnation.identity)
            .filter(|worker| worker.hello().boot == incarnation.boot);
        let Some(worker) = known.filter(|worker| worker.liveness() != Liveness::Lost) else {
            // Not registered, or its lease is over and its work may run elsewhere: it has to register anew.
            return sender.send_unregistered(incarnation, Down::SayHello(SayHello {}));
        };
        match up.message {
            Up::Heartbeat(heartbeat) => self.heartbeat(&context, worker, &heartbeat, sender),
            Up::Reports(reports) => self.reports(&context, worker, reports, sender),
            Up::Progress(progress) => self.progress(&context, worker, progress, sender),
            Up::Call(call) => self.call(&context, worker, call, up.trace, sender),
            Up::Draining(_) => self.draining(&context, worker),
            Up::Hello(_) | Up::LogChunk(_) => {}
        }
    }

    fn hello(&mut self, context: &Context<'_>, hello: WorkerHello, sender: &mut WorkerSender<'_>) {
        let &Context { now, config, state, incarnation } = context;
        if hello.identity != incarnation.identity || hello.boot != incarnation.boot {
            return;
        }
        let may_extend_leases = self.quorum_recently_active(now, config);
        let known = state.worker_by_identity(incarnation.identity);
        let registered =
            known.is_some_and(|worker| *worker.hello() == hello && worker.liveness() != Liveness::Lost);
        if let Some(session) =
            self.sessions.get(incarnation).filter(|session| session.proposed_liveness != Some(Liveness::Lost))
        {
            session.last_heard_ms = now.mono_ms;
            if registered {
                // A welcome extends the lease, as an acknowledged heartbeat does.
                if may_extend_leases {
                    let welcome = Welcome { worker: session.worker };
                    sender.send(incarnation, session, Down::Welcome(welcome));
                }
                return;
            }
        }
        if self.is_full() || self.sessions.registering.get(&incarnation.identity) == Some(&incarnation.boot) {
            return;
        }
        self.sessions.registering.insert(incarnation.identity, incarnation.boot);
        let actor = known.map_or_else(|| "worker".to_string(), |worker| worker.id.to_string());
        let command = Command::RegisterWorker(RegisterWorker { hello });
        self.enqueue(&actor, command, Waiter::Hello { incarnation }, state);
    }

    fn heartbeat(
        &mut self,
        context: &Context<'_>,
        worker: &Worker,
        heartbeat: &Heartbeat,
        sender: &mut WorkerSender<'_>,
    ) {
        let &Context { now, config, state, incarnation } = context;
        let may_extend_leases = self.quorum_recently_active(now, config);
        let Some(session) = self.sessions.get(incarnation) else { return };
        // Once its loss is proposed, an acknowledgement would let it run what may soon run elsewhere.
        if session.proposed_liveness == Some(Liveness::Lost) {
            return;
        }
        session.last_heard_ms = now.mono_ms;
        session.cpu_milli = heartbeat.cpu_milli;
        if may_extend_leases {
            let ack =
                HeartbeatAck { sent_ms: heartbeat.sent_ms, down_sent: session.down_sent, worker: worker.id };
            sender.send(incarnation, session, Down::HeartbeatAck(ack));
        }
        dispatcher::reconcile(now.mono_ms, incarnation, session, &heartbeat.held, state, sender);
        if worker.liveness() == Liveness::Suspect && session.proposed_liveness != Some(Liveness::Alive) {
            let liveness = Liveness::Alive;
            session.proposed_liveness = Some(liveness);
            let change = SetLiveness { worker: worker.id, boot: incarnation.boot, liveness };
            let waiter = Waiter::Liveness { incarnation, liveness };
            self.enqueue("leader", Command::SetLiveness(change), waiter, state);
        }
    }

    fn reports(
        &mut self,
        context: &Context<'_>,
        worker: &Worker,
        reports: Reports,
        sender: &mut WorkerSender<'_>,
    ) {
        let Reports { first_seq, oldest_unacked, reports } = reports;
        let (id, boot) = (worker.id, context.incarnation.boot);
        let numbers = Numbers { kind: Numbered::Reports, first_seq, oldest_unacked };
        self.numbered(context, worker, numbers, reports, sender, |reports| {
            Command::ReportAttempts(ReportAttempts { worker: id, boot, reports })
        });
    }

    fn progress(
        &mut self,
        context: &Context<'_>,
        worker: &Worker,
        progress: Progress,
        sender: &mut WorkerSender<'_>,
    ) {
        let Progress { first_seq, oldest_unacked, records } = progress;
        let (id, boot) = (worker.id, context.incarnation.boot);
        let numbers = Numbers { kind: Numbered::Progress, first_seq, oldest_unacked };
        self.numbered(context, worker, numbers, records, sender, |records| {
            Command::RecordProgress(RecordProgress { worker: id, boot, records })
        });
    }

    /// Proposes what is new of a numbered message, and acknowledges again what is known.
    fn numbered<T>(
        &mut self,
        context: &Context<'_>,
        worker: &Worker,
        numbers: Numbers,
        records: Vec<T>,
        sender: &mut WorkerSender<'_>,
        command: impl FnOnce(Vec<T>) -> Command,
    ) {
        let &Context { state, incarnation, .. } = context;
        let Numbers { kind, first_seq, oldest_unacked } = numbers;
        let full = self.is_full();
        let Some(session) = self.sessions.get(incarnation) else { return };
        match session.window(kind).classify(first_seq, oldest_unacked, records.len()) {
            Admission::Gap => {}
            Admission::Duplicate => sender.send(incarnation, session, Down::Ack(session.ack())),
            Admission::New { .. } if full => {}
            Admission::New { skip, last } => {
                session.window(kind).accept(last);
                let command = command(records.into_iter().skip(skip).collect());
                let waiter = Waiter::Numbered { kind, incarnation, upto: last };
                self.enqueue(&worker.id.to_string(), command, waiter, state);
            }
        }
    }

    fn call(
        &mut self,
        context: &Context<'_>,
        worker: &Worker,
        call: Call,
        trace: String,
        sender: &mut WorkerSender<'_>,
    ) {
        let &Context { now, state, incarnation, .. } = context;
        let full = self.is_full();
        let Some(session) = self.sessions.get(incarnation) else { return };
        let command = match call.request {
            CallRequest::AddChildren(add) => {
                Command::AddTasks(AddTasks { parent: call.attempt, children: add.children })
            }
            CallRequest::Seal(seal) => {
                Command::SealStage(SealStage { parent: call.attempt, stage: seal.stage })
            }
            read @ (CallRequest::StageOutputs(_)
            | CallRequest::TaskProgress(_)
            | CallRequest::FindStage(_)) => {
                if let Some(answer) = muster_machine::answer(state, call.attempt, &read) {
                    sender.send(incarnation, session, Down::Answer(AnswerTo { id: call.id, answer }));
                }
                return;
            }
        };
        // The worker repeats a call until it is answered; propose it once.
        if full || !session.calls.insert(call.id) {
            return;
        }
        let mut envelope = envelope(&worker.id.to_string(), call.id, state.applied(), command);
        envelope.trace = trace;
        let waiter = Waiter::Call { incarnation, id: call.id };
        let deadline_ms = now.mono_ms.saturating_add(COMMIT_TIMEOUT_MS);
        self.queue.push(QueuedCommand::new(envelope, waiter, deadline_ms));
    }

    fn draining(&mut self, context: &Context<'_>, worker: &Worker) {
        let &Context { state, incarnation, .. } = context;
        let Some(session) = self.sessions.get(incarnation) else { return };
        if worker.is_draining() || session.drain_proposed {
            return;
        }
        session.drain_proposed = true;
        let command = Command::DrainWorker(DrainWorker { worker: worker.id, drain: true });
        self.enqueue(&worker.id.to_string(), command, Waiter::Drain { incarnation }, state);
    }
}

/// The numbers on a message of numbered records.
struct Numbers {
    kind: Numbered,
    first_seq: u64,
    oldest_unacked: u64,
}
