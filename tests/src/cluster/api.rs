//! A client of a coordinator's HTTP API.

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

/// After this time without an answer, a request has failed.
const ANSWER_TIMEOUT_MS: u64 = 20_000;
/// Folding a long ledger takes long.
const REPLAY_TIMEOUT_MS: u64 = 600_000;
const EVENTS_PER_PAGE: u32 = 10_000;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// There was no answer: the outcome is unknown.
    #[error("no answer from the coordinator: {0}")]
    NoAnswer(#[from] reqwest::Error),
    /// The request was refused, or the coordinator does not know the outcome.
    #[error("{status}: {} ({})", view.message, view.error)]
    Refused { status: StatusCode, view: ErrorView },
}

impl ApiError {
    /// Whether the same request may succeed later: there was no answer, or no leader.
    pub fn is_transient(&self) -> bool {
        match self {
            ApiError::NoAnswer(_) => true,
            ApiError::Refused { status, .. } => status.is_server_error(),
        }
    }
}

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

/// A new UUIDv7.
pub fn new_request() -> RequestId {
    RequestId(uuid::Uuid::now_v7().as_u128())
}

impl Api {
    pub fn new(address: SocketAddr) -> Api {
        Api { base: format!("http://{address}"), timeout: Duration::from_millis(ANSWER_TIMEOUT_MS) }
    }

    /// With another timeout, for a client that tries another coordinator instead.
    pub fn with_timeout_ms(self, timeout_ms: u64) -> Api {
        Api { timeout: Duration::from_millis(timeout_ms), ..self }
    }

    /// A GET of any path.
    pub fn get(&self, path: &str) -> RequestBuilder {
        client().get(format!("{}{path}", self.base)).timeout(self.timeout)
    }

    /// A POST to any path.
    pub fn post(&self, path: &str) -> RequestBuilder {
        client().post(format!("{}{path}", self.base)).timeout(self.timeout)
    }

    pub fn status(&self) -> Result<StatusView, ApiError> {
        read(self.get("/v1/status"))
    }

    pub fn workers(&self) -> Result<Vec<WorkerView>, ApiError> {
        read(self.get("/v1/workers"))
    }

    pub fn job(&self, job: JobId) -> Result<JobDetail, ApiError> {
        read(self.get(&format!("/v1/jobs/{job}")))
    }

    pub fn jobs(&self) -> Result<Vec<JobView>, ApiError> {
        read(self.get("/v1/jobs"))
    }

    /// All tasks of a job, page by page.
    pub fn tasks(&self, job: JobId) -> Result<Vec<TaskView>, ApiError> {
        let (mut tasks, mut from) = (Vec::new(), Some(0));
        while let Some(first) = from {
            let page: TaskPage = read(self.get(&format!("/v1/jobs/{job}/tasks?from={first}")))?;
            tasks.extend(page.tasks);
            from = page.next;
        }
        Ok(tasks)
    }

    pub fn task(&self, task: TaskId) -> Result<TaskView, ApiError> {
        let page: TaskPage =
            read(self.get(&format!("/v1/jobs/{}/tasks?from={}&limit=1", task.job, task.index)))?;
        Ok(page.tasks.into_iter().next().expect("a page begins with the task that was asked for"))
    }

    pub fn submit(&self, spec: &JobSpec, request: RequestId) -> Result<JobId, ApiError> {
        let sent = self
            .post("/v1/jobs")
            .header("Idempotency-Key", request.to_string())
            .header("X-Muster-Actor", "test")
            .json(spec);
        let accepted: AcceptedView = read(sent)?;
        Ok(accepted.job.expect("a submit is answered with its job"))
    }

    pub fn cancel(&self, job: JobId) -> Result<AcceptedView, ApiError> {
        read(
            self.post(&format!("/v1/jobs/{job}/cancel"))
                .json(&serde_json::json!({ "reason": "the test says so" })),
        )
    }

    /// All events from an index on, page by page.
    pub fn events(&self, from: u64) -> Result<Vec<EventView>, ApiError> {
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

    /// Replays this coordinator's ledger up to an index, and verifies it.
    pub fn replay_until(&self, until: LogIndex) -> Result<ReplayView, ApiError> {
        read(
            self.get(&format!("/v1/replay?verify=true&until={until}"))
                .timeout(Duration::from_millis(REPLAY_TIMEOUT_MS)),
        )
    }

    /// Replays this coordinator's ledger.
    pub fn replay_without_verifying(&self) -> Result<ReplayView, ApiError> {
        read(self.get("/v1/replay").timeout(Duration::from_millis(REPLAY_TIMEOUT_MS)))
    }
}

fn read<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ApiError> {
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
    Err(ApiError::Refused { status, view })
}

/// A job with one stage.
pub fn job_of(name: &str, stage: StageSpec) -> JobSpec {
    JobSpec { name: name.to_string(), priority: 0, params: String::new(), stages: vec![stage] }
}

/// A stage with defaults for everything else.
pub fn stage_of(name: &str, tasks: u32, work: Work) -> StageSpec {
    let mut stage: StageSpec = serde_json::from_value(
        serde_json::json!({ "name": name, "tasks": tasks, "work": { "type": "noop" } }),
    )
    .expect("the fields that a stage must have");
    stage.work = work;
    stage
}

pub fn process_of(argv: &[&str]) -> Work {
    let argv = argv.iter().map(|argument| argument.to_string()).collect();
    Work::Process(ProcessWork { argv, env: Vec::new(), cwd: String::new() })
}
