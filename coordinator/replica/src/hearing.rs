//! What the leader makes of what workers say.
//!
//! Messages may be lost, late, repeated or out of order. Whatever enters the log enters it at least once, and
//! the machine tolerates repeats; nothing is acknowledged before it is applied.

use super::batch::{Item, Life, Slot};
use super::config::CoreConfig;
use super::dispatch;
use super::io::Now;
use super::leadership::{Leadership, Speaker, envelope};
use super::sessions::Admission;
use muster_machine::{State, Worker};
use muster_protocol::attempt_call::CallRequest;
use muster_protocol::bus::{
    Ack, AnswerTo, Call, Down, Heartbeat, HeartbeatAck, Progress, Reports, SayHello, Up, UpEnvelope, Welcome,
};
use muster_protocol::command::{
    AddTasks, Command, DrainWorker, RecordProgress, RegisterWorker, ReportAttempts, SealStage, SetLiveness,
};
use muster_protocol::limits::COMMIT_TIMEOUT_MS;
use muster_protocol::worker::{Liveness, WorkerHello};

impl Leadership {
    /// A worker said something.
    pub(super) fn hear(
        &mut self,
        now: Now,
        config: &CoreConfig,
        state: &State,
        up: UpEnvelope,
        speaker: &mut Speaker<'_>,
    ) {
        let life = Life { identity: up.identity, boot: up.boot };
        if !self.has_taken_over() || self.sessions.is_retired(life) {
            return;
        }
        match up.message {
            Up::Hello(hello) => return self.hello(now, config, state, life, hello, speaker),
            Up::LogChunk(chunk) => return self.tails.chunk(now.mono_ms, chunk, &mut self.sessions, speaker),
            Up::Heartbeat(_) | Up::Reports(_) | Up::Progress(_) | Up::Call(_) | Up::Draining(_) => {}
        }
        let known = state.worker_by_identity(life.identity).filter(|worker| worker.hello.boot == life.boot);
        let Some(worker) = known.filter(|worker| worker.liveness != Liveness::Lost) else {
            // Not registered, or its lease is over and its work may run elsewhere: it has to begin anew.
            return speaker.say_to_stranger(life, Down::SayHello(SayHello {}));
        };
        match up.message {
            Up::Heartbeat(heartbeat) => self.heartbeat(now, config, state, life, worker, &heartbeat, speaker),
            Up::Reports(reports) => self.reports(state, life, worker, reports, speaker),
            Up::Progress(progress) => self.progress(state, life, worker, progress, speaker),
            Up::Call(call) => self.call(now, state, life, worker, call, up.trace, speaker),
            Up::Draining(_) => self.draining(state, life, worker),
            Up::Hello(_) | Up::LogChunk(_) => {}
        }
    }

    fn hello(
        &mut self,
        now: Now,
        config: &CoreConfig,
        state: &State,
        life: Life,
        hello: WorkerHello,
        speaker: &mut Speaker<'_>,
    ) {
        if hello.identity != life.identity || hello.boot != life.boot {
            return;
        }
        let sure = self.is_sure(now, config);
        let known = state.worker_by_identity(life.identity);
        let registered =
            known.is_some_and(|worker| worker.hello == hello && worker.liveness != Liveness::Lost);
        if let Some(session) =
            self.sessions.get(life).filter(|session| session.changing != Some(Liveness::Lost))
        {
            session.heard_ms = now.mono_ms;
            if registered {
                // A welcome extends its lease, as an acknowledged heartbeat does.
                if sure {
                    speaker.say(life, session, Down::Welcome(Welcome { worker: session.worker }));
                }
                return;
            }
        }
        if self.is_full() || self.sessions.registering.get(&life.identity) == Some(&life.boot) {
            return;
        }
        self.sessions.registering.insert(life.identity, life.boot);
        let actor = known.map_or_else(|| "worker".to_string(), |worker| worker.id.to_string());
        self.propose(&actor, Command::RegisterWorker(RegisterWorker { hello }), Slot::Hello { life }, state);
    }

    #[expect(clippy::too_many_arguments, reason = "what is heard, from whom, and who is told")]
    fn heartbeat(
        &mut self,
        now: Now,
        config: &CoreConfig,
        state: &State,
        life: Life,
        worker: &Worker,
        heartbeat: &Heartbeat,
        speaker: &mut Speaker<'_>,
    ) {
        let sure = self.is_sure(now, config);
        let Some(session) = self.sessions.get(life) else { return };
        // Once its loss is on its way, to acknowledge would let it run what may soon run elsewhere.
        if session.changing == Some(Liveness::Lost) {
            return;
        }
        session.heard_ms = now.mono_ms;
        session.cpu_milli = heartbeat.cpu_milli;
        if sure {
            let ack =
                HeartbeatAck { sent_ms: heartbeat.sent_ms, down_sent: session.down_sent, worker: worker.id };
            speaker.say(life, session, Down::HeartbeatAck(ack));
        }
        dispatch::reconcile(now.mono_ms, life, session, &heartbeat.held, state, speaker);
        if worker.liveness == Liveness::Suspect && session.changing != Some(Liveness::Alive) {
            session.changing = Some(Liveness::Alive);
            let change = SetLiveness { worker: worker.id, boot: life.boot, liveness: Liveness::Alive };
            self.propose(
                "leader",
                Command::SetLiveness(change),
                Slot::Liveness { life, liveness: Liveness::Alive },
                state,
            );
        }
    }

    fn reports(
        &mut self,
        state: &State,
        life: Life,
        worker: &Worker,
        reports: Reports,
        speaker: &mut Speaker<'_>,
    ) {
        let full = self.is_full();
        let Some(session) = self.sessions.get(life) else { return };
        match session.reports.judge(reports.first_seq, reports.oldest_unacked, reports.reports.len()) {
            Admission::Gap => {}
            Admission::Known => {
                let ack = Ack { reports: session.reports.applied, progress: session.progress.applied };
                speaker.say(life, session, Down::Ack(ack));
            }
            Admission::New { .. } if full => {}
            Admission::New { skip, last } => {
                session.reports.accept(last);
                let reports = reports.reports.into_iter().skip(skip).collect();
                let command =
                    Command::ReportAttempts(ReportAttempts { worker: worker.id, boot: life.boot, reports });
                self.propose(&worker.id.to_string(), command, Slot::Reports { life, upto: last }, state);
            }
        }
    }

    fn progress(
        &mut self,
        state: &State,
        life: Life,
        worker: &Worker,
        progress: Progress,
        speaker: &mut Speaker<'_>,
    ) {
        let full = self.is_full();
        let Some(session) = self.sessions.get(life) else { return };
        match session.progress.judge(progress.first_seq, progress.oldest_unacked, progress.records.len()) {
            Admission::Gap => {}
            Admission::Known => {
                let ack = Ack { reports: session.reports.applied, progress: session.progress.applied };
                speaker.say(life, session, Down::Ack(ack));
            }
            Admission::New { .. } if full => {}
            Admission::New { skip, last } => {
                session.progress.accept(last);
                let records = progress.records.into_iter().skip(skip).collect();
                let command =
                    Command::RecordProgress(RecordProgress { worker: worker.id, boot: life.boot, records });
                self.propose(&worker.id.to_string(), command, Slot::Progress { life, upto: last }, state);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what is heard, from whom, and who is told")]
    fn call(
        &mut self,
        now: Now,
        state: &State,
        life: Life,
        worker: &Worker,
        call: Call,
        trace: String,
        speaker: &mut Speaker<'_>,
    ) {
        let full = self.is_full();
        let Some(session) = self.sessions.get(life) else { return };
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
                    speaker.say(life, session, Down::Answer(AnswerTo { id: call.id, answer }));
                }
                return;
            }
        };
        // It is asked again until it is answered: once is enough.
        if full || !session.calls.insert(call.id) {
            return;
        }
        let mut envelope = envelope(&worker.id.to_string(), call.id, state.applied(), command);
        envelope.trace = trace;
        self.queue.push(Item::new(
            envelope,
            Slot::Call { life, id: call.id },
            now.mono_ms.saturating_add(COMMIT_TIMEOUT_MS),
        ));
    }

    fn draining(&mut self, state: &State, life: Life, worker: &Worker) {
        let Some(session) = self.sessions.get(life) else { return };
        if worker.draining || session.draining {
            return;
        }
        session.draining = true;
        let command = Command::DrainWorker(DrainWorker { worker: worker.id, drain: true });
        self.propose(&worker.id.to_string(), command, Slot::Drain { life }, state);
    }
}
