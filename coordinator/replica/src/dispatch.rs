//! What workers are told to run and to stop: derived from the state, said at once when it changes, and again
//! whenever a heartbeat shows that it did not arrive.

use super::batch::Life;
use super::leadership::Speaker;
use super::sessions::{Session, Sessions};
use muster_machine::State;
use muster_protocol::bus::{Down, Held, Launch, Phase, Run, Stop};
use muster_protocol::codec;
use muster_protocol::event::Event;
use muster_protocol::ids::{AttemptId, WorkerId};
use muster_protocol::limits::BUS_MESSAGE_BYTES_MAX;
use muster_protocol::outcome::{Outcome, Reason};
use std::collections::{BTreeMap, BTreeSet};

/// A worker is told again of an attempt after this time, if its heartbeats do not show it.
const TELL_AGAIN_MS: u64 = 600;
/// The launches in one message take at most this much; one launch alone takes less.
const RUN_BYTES_MAX: usize = BUS_MESSAGE_BYTES_MAX / 2;

/// What changed since workers were last told.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    homes: BTreeMap<AttemptId, WorkerId>,
    fresh: BTreeMap<WorkerId, Vec<AttemptId>>,
}

impl Dispatch {
    /// Nothing is fresh: heartbeats will show what is missing.
    pub(super) fn start(state: &State) -> Dispatch {
        let homes =
            state.workers().flat_map(|worker| worker.held.iter().map(|attempt| (*attempt, worker.id)));
        Dispatch { homes: homes.collect(), fresh: BTreeMap::new() }
    }

    /// The worker that holds a live attempt.
    pub(super) fn home(&self, attempt: AttemptId) -> Option<WorkerId> {
        self.homes.get(&attempt).copied()
    }

    /// Notes what an applied event means to workers.
    pub(super) fn note(&mut self, event: &Event) {
        if let Event::TaskAssigned(assigned) = event {
            self.homes.insert(assigned.attempt, assigned.worker);
            self.fresh.entry(assigned.worker).or_default().push(assigned.attempt);
        } else if let Event::AttemptStopped(stopped) = event {
            if let Some(worker) = self.homes.get(&stopped.attempt) {
                self.fresh.entry(*worker).or_default().push(stopped.attempt);
            }
        } else if let Event::AttemptEnded(ended) = event {
            self.homes.remove(&ended.attempt);
        }
    }

    /// Tells workers what is fresh.
    pub(super) fn tell(
        &mut self,
        mono_ms: u64,
        state: &State,
        sessions: &mut Sessions,
        speaker: &mut Speaker<'_>,
    ) {
        for (worker, attempts) in std::mem::take(&mut self.fresh) {
            let Some(identity) = state.worker(worker).map(|worker| worker.hello.identity) else { continue };
            let Some(session) = sessions.of(identity) else { continue };
            let life = Life { identity, boot: session.boot };
            say(mono_ms, life, session, &attempts, state, speaker);
        }
    }
}

/// Compares what a worker holds with what it should hold, and tells it the difference.
pub(super) fn reconcile(
    mono_ms: u64,
    life: Life,
    session: &mut Session,
    held: &[Held],
    state: &State,
    speaker: &mut Speaker<'_>,
) {
    let Some(worker) = state.worker(session.worker) else { return };
    let phases: BTreeMap<AttemptId, Phase> = held.iter().map(|held| (held.attempt, held.phase)).collect();
    session.told_ms.retain(|attempt, _| worker.held.contains(attempt) || phases.contains_key(attempt));
    let told_ms = &session.told_ms;
    let told_lately =
        |attempt: &AttemptId| told_ms.get(attempt).is_some_and(|told_ms| mono_ms < told_ms + TELL_AGAIN_MS);
    let amiss = worker.held.iter().filter(|attempt| match phases.get(attempt) {
        None => true,
        Some(Phase::Queued | Phase::Running) => state.stop(**attempt).is_some(),
        Some(Phase::Stopping | Phase::Ended) => false,
    });
    let amiss: Vec<AttemptId> = amiss.filter(|attempt| !told_lately(attempt)).copied().collect();
    let stray =
        phases.iter().filter(|(attempt, phase)| **phase != Phase::Ended && !worker.held.contains(attempt));
    let stray: BTreeSet<AttemptId> =
        stray.map(|(attempt, _)| *attempt).filter(|attempt| !told_lately(attempt)).collect();
    say(mono_ms, life, session, &amiss, state, speaker);
    for attempt in stray {
        let outcome = Outcome::Lost(Reason { message: "the log gave this attempt up".to_string() });
        session.told_ms.insert(attempt, mono_ms);
        speaker.say(life, session, Down::Stop(Stop { attempt, outcome, grace_ms: 0 }));
    }
}

/// Tells a worker of live attempts of its own: to run them, or to stop them.
fn say(
    mono_ms: u64,
    life: Life,
    session: &mut Session,
    attempts: &[AttemptId],
    state: &State,
    speaker: &mut Speaker<'_>,
) {
    let mut launches: Vec<Launch> = Vec::new();
    let mut bytes = 0;
    for attempt in attempts {
        session.told_ms.insert(*attempt, mono_ms);
        // In the order of the log: a stop follows the launches before it.
        if let Some(stop) = state.stop(*attempt) {
            flush(life, session, &mut launches, speaker);
            bytes = 0;
            speaker.say(life, session, Down::Stop(stop));
        } else if let Some(launch) = state.launch(*attempt) {
            let more = codec::encode(&launch).len();
            if bytes + more > RUN_BYTES_MAX {
                flush(life, session, &mut launches, speaker);
                bytes = 0;
            }
            bytes += more;
            launches.push(launch);
        }
    }
    flush(life, session, &mut launches, speaker);
}

fn flush(life: Life, session: &mut Session, launches: &mut Vec<Launch>, speaker: &mut Speaker<'_>) {
    if !launches.is_empty() {
        speaker.say(life, session, Down::Run(Run { launches: std::mem::take(launches) }));
    }
}
