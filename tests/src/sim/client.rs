//! A simulated client: one open request at a time, sent again under the same id until it is answered.

use super::workload;
use muster_protocol::command::{CancelJob, Command, SubmitJob};
use muster_protocol::envelope::Envelope;
use muster_protocol::ids::{JobId, LogIndex, RequestId};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// After this time without an answer, a request is sent again.
pub const RESEND_MS: u64 = 1_500;

/// A request without an answer.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    pub envelope: Envelope,
    /// How often it was sent; answers to earlier attempts are dropped.
    pub attempt_number: u32,
    /// The coordinator that it goes to.
    pub target: usize,
}

#[derive(Default)]
pub struct Client {
    pub open_request: Option<OpenRequest>,
    /// Its own jobs, which it may cancel.
    cancellable: Vec<JobId>,
}

impl Client {
    /// Draws the next request: submits a job, or cancels one. `None`: no job is left to submit.
    pub fn next_request(
        &mut self,
        jobs_left: &mut usize,
        coordinators: usize,
        random: &mut ChaCha8Rng,
    ) -> Option<&OpenRequest> {
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
        self.open_request =
            Some(OpenRequest { envelope, attempt_number: 0, target: random.random_range(0..coordinators) });
        self.open_request.as_ref()
    }

    pub fn accepted(&mut self, job: JobId) {
        self.cancellable.push(job);
    }
}
