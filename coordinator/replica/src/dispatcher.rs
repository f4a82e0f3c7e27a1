//! What workers have to run and to stop. It is derived from the state, sent at once when it changes, and sent
//! again whenever a heartbeat shows that it did not arrive.

use crate::sessions::{Session, Sessions, WorkerIncarnation};
use crate::worker_sender::WorkerSender;
use muster_machine::State;
use muster_protocol::bus::{Down, Held, Launch, Phase, Run, Stop};
use muster_protocol::codec;
use muster_protocol::event::Event;
use muster_protocol::ids::{AttemptId, WorkerId};
use muster_protocol::limits::BUS_MESSAGE_BYTES_MAX;
use muster_protocol::outcome::{Outcome, Reason};
use std::collections::{BTreeMap, BTreeSet};

/// An attempt is sent to a worker again after this time if its heartbeats do not show it.
const RESEND_MS: u64 = 600;
/// Bytes of launches in one message. A single launch is smaller.
const RUN_BYTES_MAX: usize = BUS_MESSAGE_BYTES_MAX / 2;

#[derive(Debug, Default)]
pub struct Dispatcher {
    /// Where each live attempt is.
    placements: BTreeMap<AttemptId, WorkerId>,
    /// Changes that were not sent yet.
    unsent: BTreeMap<WorkerId, Vec<AttemptId>>,
}

impl Dispatcher {
    /// Nothing is unsent: heartbeats will show what workers lack.
    pub fn start(state: &State) -> Dispatcher {
        let placements = state.workers().flat_map(|worker| worker.held().map(|attempt| (attempt, worker.id)));
        Dispatcher { placements: placements.collect(), unsent: BTreeMap::new() }
    }

    /// The worker that holds a live attempt.
    pub fn worker_of(&self, attempt: AttemptId) -> Option<WorkerId> {
        self.placements.get(&attempt).copied()
    }

    pub fn observe(&mut self, event: &Event) {
        if let Event::TaskAssigned(assigned) = event {
            self.placements.insert(assigned.attempt, assigned.worker);
            self.unsent.entry(assigned.worker).or_default().push(assigned.attempt);
        } else if let Event::AttemptStopped(stopped) = event {
            if let Some(worker) = self.placements.get(&stopped.attempt) {
                self.unsent.entry(*worker).or_default().push(stopped.attempt);
            }
        } else if let Event::AttemptEnded(ended) = event {
            self.placements.remove(&ended.attempt);
        }
    }

    pub fn send_changes(
        &mut self,
        mono_ms: u64,
        state: &State,
        sessions: &mut Sessions,
        sender: &mut WorkerSender<'_>,
    ) {
        for (worker, attempts) in std::mem::take(&mut self.unsent) {
            let Some(identity) = state.worker(worker).map(|worker| worker.hello().identity) else { continue };
            let Some(session) = sessions.present(identity) else { continue };
            let incarnation = WorkerIncarnation { identity, boot: session.boot };
            send(mono_ms, incarnation, session, &attempts, state, sender);
        }
    }
}

/// Compares what a worker holds with what it should hold, and sends it the difference.
pub fn reconcile(
    mono_ms: u64,
    incarnation: WorkerIncarnation,
    session: &mut Session,
    held: &[Held],
    state: &State,
    sender: &mut WorkerSender<'_>,
) {
    let Some(worker) = state.worker(session.worker) else { return };
    let phases: BTreeMap<AttemptId, Phase> = held.iter().map(|held| (held.attempt, held.phase)).collect();
    session.last_sent_ms.retain(|attempt, _| worker.holds(*attempt) || phases.contains_key(attempt));
    let last_sent_ms = &session.last_sent_ms;
    let sent_recently =
        |attempt: &AttemptId| last_sent_ms.get(attempt).is_some_and(|sent_ms| mono_ms < sent_ms + RESEND_MS);
    let differing = worker.held().filter(|attempt| match phases.get(attempt) {
        None => true,
        Some(Phase::Queued | Phase::Running) => state.stop(*attempt).is_some(),
        Some(Phase::Stopping | Phase::Ended) => false,
    });
    let differing: Vec<AttemptId> = differing.filter(|attempt| !sent_recently(attempt)).collect();
    let orphans =
        phases.iter().filter(|(attempt, phase)| **phase != Phase::Ended && !worker.holds(**attempt));
    let orphans: BTreeSet<AttemptId> =
        orphans.map(|(attempt, _)| *attempt).filter(|attempt| !sent_recently(attempt)).collect();
    send(mono_ms, incarnation, session, &differing, state, sender);
    for attempt in orphans {
        let outcome = Outcome::Lost(Reason { message: "the log gave this attempt up".to_string() });
        session.last_sent_ms.insert(attempt, mono_ms);
        sender.send(incarnation, session, Down::Stop(Stop { attempt, outcome, grace_ms: 0 }));
    }
}

/// Sends a worker its own live attempts: to run them, or to stop them.
fn send(
    mono_ms: u64,
    incarnation: WorkerIncarnation,
    session: &mut Session,
    attempts: &[AttemptId],
    state: &State,
    sender: &mut WorkerSender<'_>,
) {
    let mut launches: Vec<Launch> = Vec::new();
    let mut bytes = 0;
    for attempt in attempts {
        session.last_sent_ms.insert(*attempt, mono_ms);
        // In the order of the log: a stop follows the launches before it.
        if let Some(stop) = state.stop(*attempt) {
            flush(incarnation, session, &mut launches, sender);
            bytes = 0;
            sender.send(incarnation, session, Down::Stop(stop));
        } else if let Some(launch) = state.launch(*attempt) {
            let more = codec::encode(&launch).len();
            if bytes + more > RUN_BYTES_MAX {
                flush(incarnation, session, &mut launches, sender);
                bytes = 0;
            }
            bytes += more;
            launches.push(launch);
        }
    }
    flush(incarnation, session, &mut launches, sender);
}

fn flush(
    incarnation: WorkerIncarnation,
    session: &mut Session,
    launches: &mut Vec<Launch>,
    sender: &mut WorkerSender<'_>,
) {
    if !launches.is_empty() {
        sender.send(incarnation, session, Down::Run(Run { launches: std::mem::take(launches) }));
    }
}
