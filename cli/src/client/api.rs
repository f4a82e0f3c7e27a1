//! The requests of the API, one method each.

use super::{Client, Error};
use muster_protocol::ids::{JobId, RequestId, TaskId, WorkerId};
use muster_protocol::spec::JobSpec;
use muster_protocol::view::{
    AcceptedView, EventView, JobDetail, JobView, ReplayView, StatusView, TaskPage, TaskView, WorkerView,
};
use serde_json::json;
use std::time::Duration;

const TASKS_PER_PAGE: u32 = 1_000;
pub const EVENTS_PER_PAGE: u32 = 10_000;
/// Replaying a long ledger takes long.
const REPLAY_TIMEOUT_MS: u64 = 600_000;

/// A new request id: a UUIDv7.
pub fn new_request() -> RequestId {
    RequestId(uuid::Uuid::now_v7().as_u128())
}

impl Client {
    /// The cluster as any coordinator sees it.
    pub async fn status(&self) -> Result<StatusView, Error> {
        self.get("/v1/status").await
    }

    /// The cluster as one coordinator sees it.
    pub async fn status_of(&self, base: &str, timeout: Duration) -> Result<StatusView, Error> {
        self.get_of(base, "/v1/status", timeout).await
    }

    /// Learns the other coordinators, so that a long wait survives the loss of the first.
    pub async fn learn_members(&self) {
        // Without an answer there is nothing to learn; the next request will report it.
        if let Ok(status) = self.status().await {
            self.learn(status.members.iter().map(|member| format!("http://{}", member.http)));
        }
    }

    /// Newest first.
    pub async fn jobs(&self, state: Option<&str>, limit: u32) -> Result<Vec<JobView>, Error> {
        let state = state.map_or(String::new(), |state| format!("&state={state}"));
        self.get(&format!("/v1/jobs?limit={limit}{state}")).await
    }

    pub async fn job(&self, job: JobId) -> Result<JobDetail, Error> {
        self.get(&format!("/v1/jobs/{job}")).await
    }

    /// One page: at most `limit` tasks from index `from` on.
    pub async fn task_page(&self, job: JobId, from: u32, limit: u32) -> Result<TaskPage, Error> {
        self.get(&format!("/v1/jobs/{job}/tasks?from={from}&limit={limit}")).await
    }

    /// As many pages as `limit` tasks need.
    pub async fn tasks(&self, job: JobId, from: u32, limit: u32) -> Result<TaskPage, Error> {
        let mut all = self.task_page(job, from, limit.min(TASKS_PER_PAGE)).await?;
        while let Some(from) = all.next {
            let left = limit.saturating_sub(u32::try_from(all.tasks.len()).unwrap_or(u32::MAX));
            if left == 0 {
                break;
            }
            let page = self.task_page(job, from, left.min(TASKS_PER_PAGE)).await?;
            // A page that does not advance would be asked for forever.
            all.next = page.next.filter(|next| *next > from);
            all.tasks.extend(page.tasks);
        }
        Ok(all)
    }

    pub async fn task(&self, task: TaskId) -> Result<Option<TaskView>, Error> {
        let page = self.task_page(task.job, task.index, 1).await?;
        Ok(page.tasks.into_iter().find(|found| found.id == task))
    }

    pub async fn workers(&self) -> Result<Vec<WorkerView>, Error> {
        self.get("/v1/workers").await
    }

    /// One page of events from a log index on.
    pub async fn events(&self, from: u64, job: Option<JobId>, limit: u32) -> Result<Vec<EventView>, Error> {
        let job = job.map_or(String::new(), |job| format!("&job={job}"));
        self.get(&format!("/v1/events?from={from}&limit={limit}{job}")).await
    }

    pub async fn submit(&self, spec: &JobSpec) -> Result<AcceptedView, Error> {
        let body = serde_json::to_value(spec)
            .map_err(|error| Error::Unreadable { url: "the job".to_string(), why: error.to_string() })?;
        self.post("/v1/jobs", &body, new_request()).await
    }

    pub async fn cancel(&self, job: JobId, reason: &str) -> Result<AcceptedView, Error> {
        self.post(&format!("/v1/jobs/{job}/cancel"), &json!({ "reason": reason }), new_request()).await
    }

    pub async fn retry(&self, job: JobId) -> Result<AcceptedView, Error> {
        self.post(&format!("/v1/jobs/{job}/retry"), &json!({}), new_request()).await
    }

    /// `false` lets the worker take work again.
    pub async fn drain(&self, worker: WorkerId, drain: bool) -> Result<AcceptedView, Error> {
        self.post(&format!("/v1/workers/{worker}/drain"), &json!({ "drain": drain }), new_request()).await
    }

    /// Replays the ledger of one coordinator, from its first entry or its newest snapshot.
    pub async fn replay(
        &self,
        base: &str,
        until: Option<&str>,
        verify: bool,
        from_snapshot: bool,
    ) -> Result<ReplayView, Error> {
        let until = until.map_or(String::new(), |until| format!("&until={until}"));
        self.get_of(
            base,
            &format!("/v1/replay?verify={verify}&from_snapshot={from_snapshot}{until}"),
            Duration::from_millis(REPLAY_TIMEOUT_MS),
        )
        .await
    }
}
