//! A coordinator's HTTP API, as a program uses it.

use muster_protocol::ids::{JobId, LogIndex, RequestId, TaskId};
use muster_protocol::spec::{JobSpec, ProcessWork, StageSpec, Work};
use muster_protocol::view::{
    AcceptedView, ErrorView, EventView, JobDetail, JobView, ReplayView, StatusView, TaskPage, TaskView,
    WorkerView,
};
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

/// A request that gets no answer for so long has failed.
const ANSWER_TIMEOUT_MS: u64 = 20_000;
/// Folding a long ledger takes its time.
const REPLAY_TIMEOUT_MS: u64 = 600_000;
/// Events are asked for in pages of so many.
const EVENTS_PER_PAGE: u32 = 10_000;

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was heard: it is not known whether anything was done.
    #[error("hear from the coordinator: {0}")]
    Silent(#[from] reqwest::Error),
    /// It was refused, or the coordinator does not know the outcome.
    #[error("{status}: {} ({})", view.message, view.error)]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What was said.
        view: ErrorView,
    },
}

impl Error {
    /// Whether the same request may be sent again in the hope of another answer: there was none, or no
    /// leader.
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Silent(_) => true,
            Error::Refused { status, .. } => status.is_server_error(),
        }
    }
}

/// A coordinator's API.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    timeout: Duration,
}

fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        Client::builder().tcp_nodelay(true).no_proxy().build().expect("a client without TLS can be made")
    })
}

/// A request id of our own: a UUIDv7.
pub fn new_request() -> RequestId {
    RequestId(uuid::Uuid::now_v7().as_u128())
}

impl Api {
    /// The API at `address`.
    pub fn new(address: SocketAddr) -> Api {
        Api { base: format!("http://{address}"), timeout: Duration::from_millis(ANSWER_TIMEOUT_MS) }
    }

    /// The same, with less patience: for a client that asks another coordinator instead.
    pub fn with_timeout_ms(self, timeout_ms: u64) -> Api {
        Api { timeout: Duration::from_millis(timeout_ms), ..self }
    }

    /// A GET of `path`, for what is not in the methods below.
    pub fn get(&self, path: &str) -> RequestBuilder {
        client().get(format!("{}{path}", self.base)).timeout(self.timeout)
    }

    /// A POST to `path`.
    pub fn post(&self, path: &str) -> RequestBuilder {
        client().post(format!("{}{path}", self.base)).timeout(self.timeout)
    }

    /// How this coordinator sees the cluster.
    pub fn status(&self) -> Result<StatusView, Error> {
        read(self.get("/v1/status"))
    }

    /// All workers.
    pub fn workers(&self) -> Result<Vec<WorkerView>, Error> {
        read(self.get("/v1/workers"))
    }

    /// A job.
    pub fn job(&self, job: JobId) -> Result<JobDetail, Error> {
        read(self.get(&format!("/v1/jobs/{job}")))
    }

    /// The newest jobs.
    pub fn jobs(&self) -> Result<Vec<JobView>, Error> {
        read(self.get("/v1/jobs"))
    }

    /// All tasks of a job.
    pub fn tasks(&self, job: JobId) -> Result<Vec<TaskView>, Error> {
        let (mut tasks, mut from) = (Vec::new(), Some(0));
        while let Some(first) = from {
            let page: TaskPage = read(self.get(&format!("/v1/jobs/{job}/tasks?from={first}")))?;
            tasks.extend(page.tasks);
            from = page.next;
        }
        Ok(tasks)
    }

    /// One task.
    pub fn task(&self, task: TaskId) -> Result<TaskView, Error> {
        let page: TaskPage =
            read(self.get(&format!("/v1/jobs/{}/tasks?from={}&limit=1", task.job, task.index)))?;
        Ok(page.tasks.into_iter().next().expect("a page begins with the task that was asked for"))
    }

    /// Submits a job, once.
    pub fn submit(&self, spec: &JobSpec, request: RequestId) -> Result<JobId, Error> {
        let sent = self
            .post("/v1/jobs")
            .header("Idempotency-Key", request.to_string())
            .header("X-Muster-Actor", "test")
            .json(spec);
        let accepted: AcceptedView = read(sent)?;
        Ok(accepted.job.expect("a submit is answered with its job"))
    }

    /// Cancels a job.
    pub fn cancel(&self, job: JobId) -> Result<AcceptedView, Error> {
        read(
            self.post(&format!("/v1/jobs/{job}/cancel"))
                .json(&serde_json::json!({ "reason": "the test says so" })),
        )
    }

    /// All events from `from` on.
    pub fn events(&self, from: u64) -> Result<Vec<EventView>, Error> {
        let (mut events, mut next) = (Vec::<EventView>::new(), from);
        loop {
            let page: Vec<EventView> =
                read(self.get(&format!("/v1/events?from={next}&limit={EVENTS_PER_PAGE}")))?;
            let Some(last) = page.last() else { return Ok(events) };
            let before = events.len();
            next = last.index.0 + 1;
            events.extend(page);
            if events.len() == before {
                return Ok(events);
            }
        }
    }

    /// Folds this coordinator's ledger from zero up to an index, and decides every command again.
    pub fn replay_until(&self, until: LogIndex) -> Result<ReplayView, Error> {
        read(
            self.get(&format!("/v1/replay?verify=true&until={until}"))
                .timeout(Duration::from_millis(REPLAY_TIMEOUT_MS)),
        )
    }

    /// Folds this coordinator's ledger from zero.
    pub fn replay_without_verifying(&self) -> Result<ReplayView, Error> {
        read(self.get("/v1/replay").timeout(Duration::from_millis(REPLAY_TIMEOUT_MS)))
    }
}

fn read<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Error> {
    let response: Response = request.send()?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.json()?);
    }
    let text = response.text()?;
    let view = serde_json::from_str(&text).unwrap_or(ErrorView {
        error: "unreadable".to_string(),
        message: text,
        field: String::new(),
    });
    Err(Error::Refused { status, view })
}

/// A job of one stage.
pub fn job_of(name: &str, stage: StageSpec) -> JobSpec {
    JobSpec { name: name.to_string(), priority: 0, params: String::new(), stages: vec![stage] }
}

/// A stage of so many tasks, with every rule at its default.
pub fn stage_of(name: &str, tasks: u32, work: Work) -> StageSpec {
    let mut stage: StageSpec = serde_json::from_value(
        serde_json::json!({ "name": name, "tasks": tasks, "work": { "type": "noop" } }),
    )
    .expect("a stage with nothing but what it must have");
    stage.work = work;
    stage
}

/// A command line as work.
pub fn process_of(argv: &[&str]) -> Work {
    let argv = argv.iter().map(|argument| argument.to_string()).collect();
    Work::Process(ProcessWork { argv, env: Vec::new(), cwd: String::new() })
}
