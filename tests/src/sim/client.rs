//! A simulated client: one request under way at a time, asked again under the same id until it is answered.

use super::workload;
use muster_protocol::command::{CancelJob, Command, SubmitJob};
use muster_protocol::envelope::Envelope;
use muster_protocol::ids::{JobId, LogIndex, RequestId};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A request that was not answered for so long is asked again, elsewhere.
pub const PATIENCE_MS: u64 = 1_500;

/// A request under way.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What is asked, the same each time.
    pub envelope: Envelope,
    /// Which of its askings: an answer to an earlier one counts as well.
    pub tries: u32,
    /// The coordinator that is asked.
    pub of: usize,
}

/// A client.
#[derive(Default)]
pub struct Client {
    /// What it waits for.
    pub asked: Option<Asked>,
    /// Jobs of its own that it may cancel.
    cancellable: Vec<JobId>,
}

impl Client {
    /// Thinks of something to ask: another job, or an end to one. `None`: it has nothing more to ask.
    pub fn think(
        &mut self,
        jobs_left: &mut usize,
        coordinators: usize,
        random: &mut ChaCha8Rng,
    ) -> Option<&Asked> {
        let command = match self.cancellable.pop() {
            Some(job) if random.random_bool(0.15) => {
                Command::CancelJob(CancelJob { job, reason: "the client changed its mind".to_string() })
            }
            Some(_) | None if *jobs_left == 0 => return None,
            Some(_) | None => {
                *jobs_left -= 1;
                Command::SubmitJob(SubmitJob { spec: workload::job(*jobs_left, random) })
            }
        };
        let envelope = Envelope {
            request: RequestId(random.random()),
            actor: "a client".to_string(),
            client: "sim".to_string(),
            namespace: "default".to_string(),
            trace: String::new(),
            cause: LogIndex(0),
            command,
        };
        self.asked = Some(Asked { envelope, tries: 0, of: random.random_range(0..coordinators) });
        self.asked.as_ref()
    }

    /// A job of its own was accepted.
    pub fn accepted(&mut self, job: JobId) {
        self.cancellable.push(job);
    }
}
