//! The client of the HTTP API: asks any coordinator, and another one when that does not answer.
//!
//! Its one job is to keep asking until there is an answer or the patience ends. A failed call means unknown,
//! not failed: the same request is sent again, under the same id, to the next coordinator. It must never send
//! a changed request under an old id.

mod api;
mod events;
mod labeling;
mod logs;
mod sse;

pub use api::{EVENTS_PER_PAGE, new_request};
pub use events::EventTail;
pub use labeling::{LabelingClient, LabelingError};
pub use logs::LogTail;

use muster_protocol::ids::RequestId;
use muster_protocol::view::ErrorView;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::future::Future;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A coordinator on this machine.
pub const URL_DEFAULT: &str = "http://127.0.0.1:7401";
/// Of one attempt at a request; longer than a coordinator waits for a commit.
const ATTEMPT_TIMEOUT_MS: u64 = 12_000;
const CONNECT_TIMEOUT_MS: u64 = 2_000;
/// The pause between two attempts grows from the first value to the second.
const PAUSE_MS_MIN: u64 = 50;
const PAUSE_MS_MAX: u64 = 1_000;
/// The most coordinators that a client remembers.
const COORDINATORS_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a valid address.
    #[error("{url:?} is not the address of a coordinator: {why}")]
    Url { url: String, why: String },
    #[error(
        "no answer from {urls} for {patience_s} s (last error: {last}); the outcome is unknown, and the request may be sent again"
    )]
    Unreachable {
        urls: String,
        patience_s: u64,
        /// The last error.
        last: String,
    },
    /// The cluster rejected the request.
    #[error("{}", refusal(view))]
    Refused { status: StatusCode, view: ErrorView },
    /// The answer is not one of a coordinator.
    #[error("{url} does not answer as a coordinator does: {why}")]
    Unreadable { url: String, why: String },
}

fn refusal(view: &ErrorView) -> String {
    if view.field.is_empty() { view.message.clone() } else { format!("{}: {}", view.field, view.message) }
}

pub struct Client {
    http: reqwest::Client,
    bases: RwLock<Vec<String>>,
    current: AtomicUsize,
    patience: Duration,
    actor: String,
}

impl Client {
    /// `urls` are separated by commas.
    pub fn new(urls: &str, patience: Duration) -> Result<Client, Error> {
        let bases = urls
            .split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .map(base_of)
            .collect::<Result<Vec<_>, _>>()?;
        if bases.is_empty() {
            return Err(Error::Url { url: urls.to_string(), why: "it names no coordinator".to_string() });
        }
        let http = reqwest::Client::builder()
            .tcp_nodelay(true)
            .no_proxy()
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .user_agent(concat!("muster-cli/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Url { url: urls.to_string(), why: error.to_string() })?;
        // It goes into a header, so it must be visible ASCII.
        let user = std::env::var("USER")
            .ok()
            .filter(|user| !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_graphic()));
        let actor = user.unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
        Ok(Client { http, bases: RwLock::new(bases), current: AtomicUsize::new(0), patience, actor })
    }

    /// The address of the coordinator that is asked next.
    pub fn base(&self) -> String {
        let bases = self.bases.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        bases[self.current.load(Ordering::Relaxed) % bases.len()].clone()
    }

    /// Moves on to the next coordinator.
    pub fn use_next(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds coordinators to ask after the known ones.
    fn learn(&self, more: impl IntoIterator<Item = String>) {
        let mut bases = self.bases.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        for base in more {
            if !bases.contains(&base) && bases.len() < COORDINATORS_MAX {
                bases.push(base);
            }
        }
    }

    /// How long it keeps trying.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// A GET whose answer is JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.answer(|base| self.request(Method::GET, base, path)).await
    }

    /// A POST under a request id, whose answer is JSON.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
        id: RequestId,
    ) -> Result<T, Error> {
        self.answer(|base| self.posted(base, path, body, id)).await
    }

    /// A GET of one coordinator, sent once: for what that coordinator says of itself.
    pub async fn get_of<T: DeserializeOwned>(
        &self,
        base: &str,
        path: &str,
        timeout: Duration,
    ) -> Result<T, Error> {
        let sent = self.request(Method::GET, base, path).timeout(timeout).send().await;
        once(base, timeout, read(base, sent).await)
    }

    /// A POST to one coordinator, sent once.
    pub async fn post_of<T: DeserializeOwned>(
        &self,
        base: &str,
        path: &str,
        body: &serde_json::Value,
        id: RequestId,
        timeout: Duration,
    ) -> Result<T, Error> {
        let sent = self.posted(base, path, body, id).timeout(timeout).send().await;
        once(base, timeout, read(base, sent).await)
    }

    fn posted(&self, base: &str, path: &str, body: &serde_json::Value, id: RequestId) -> RequestBuilder {
        let request = self.request(Method::POST, base, path);
        // The trace starts here. Its id is the request's, so that one leads to the other.
        let trace = format!("00-{:032x}-{:016x}-01", id.0, (id.0 as u64) | 1);
        request
            .header("Idempotency-Key", id.to_string())
            .header("X-Muster-Actor", &self.actor)
            .header("traceparent", trace)
            .json(body)
    }

    fn request(&self, method: Method, base: &str, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{base}{path}"))
    }

    async fn answer<T: DeserializeOwned>(&self, make: impl Fn(&str) -> RequestBuilder) -> Result<T, Error> {
        let timeout = Duration::from_millis(ATTEMPT_TIMEOUT_MS)
            .min(self.patience.max(Duration::from_millis(CONNECT_TIMEOUT_MS)));
        let make = &make;
        self.with_retries(|base| async move { read(&base, make(&base).timeout(timeout).send().await).await })
            .await
    }

    /// Tries coordinator after coordinator until there is a final answer or the patience ends.
    async fn with_retries<T, F: Future<Output = Result<T, AttemptError>>>(
        &self,
        attempt: impl Fn(String) -> F,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(PAUSE_MS_MIN);
        loop {
            let last = match attempt(self.base()).await {
                Ok(value) => return Ok(value),
                Err(AttemptError::Final(error)) => return Err(error),
                Err(AttemptError::Retry(last)) => last,
            };
            self.use_next();
            if began.elapsed() + pause > self.patience {
                let bases = self.bases.read().unwrap_or_else(|poisoned| poisoned.into_inner());
                return Err(Error::Unreachable {
                    urls: bases.join(", "),
                    patience_s: self.patience.as_secs(),
                    last,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(PAUSE_MS_MAX));
        }
    }
}

/// The result of a single attempt as an error of the caller's.
fn once<T>(base: &str, timeout: Duration, answer: Result<T, AttemptError>) -> Result<T, Error> {
    answer.map_err(|unanswered| match unanswered {
        AttemptError::Final(error) => error,
        AttemptError::Retry(last) => {
            Error::Unreachable { urls: base.to_string(), patience_s: timeout.as_secs(), last }
        }
    })
}

/// Why one attempt has no good answer.
enum AttemptError {
    /// Another attempt may succeed.
    Retry(String),
    /// No other attempt can.
    Final(Error),
}

fn base_of(url: &str) -> Result<String, Error> {
    let with_scheme = if url.contains("://") { url.to_string() } else { format!("http://{url}") };
    let wrong = |why: &str| Error::Url { url: url.to_string(), why: why.to_string() };
    let parsed = reqwest::Url::parse(&with_scheme).map_err(|error| wrong(&error.to_string()))?;
    if parsed.scheme() != "http" {
        return Err(wrong("coordinators speak http"));
    }
    Ok(with_scheme.trim_end_matches('/').to_string())
}

/// The response if it is a success; otherwise whether to try again.
async fn checked(base: &str, sent: Result<Response, reqwest::Error>) -> Result<Response, AttemptError> {
    let response = sent.map_err(|error| AttemptError::Retry(root_cause(&error)))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    let view: Option<ErrorView> = serde_json::from_str(&text).ok();
    let passing = matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    ) || view
        .as_ref()
        .is_some_and(|view| ["no_leader", "timed_out", "overloaded"].contains(&view.error.as_str()));
    if passing {
        let said = view.map_or(status.to_string(), |view| view.message);
        return Err(AttemptError::Retry(format!("{base} says: {said}")));
    }
    Err(AttemptError::Final(match view {
        Some(view) => Error::Refused { status, view },
        None => Error::Unreadable { url: base.to_string(), why: status.to_string() },
    }))
}

async fn read<T: DeserializeOwned>(
    base: &str,
    sent: Result<Response, reqwest::Error>,
) -> Result<T, AttemptError> {
    let response = checked(base, sent).await?;
    let bytes = response.bytes().await.map_err(|error| AttemptError::Retry(root_cause(&error)))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        AttemptError::Final(Error::Unreadable { url: base.to_string(), why: error.to_string() })
    })
}

/// The innermost cause: `connection refused` says more than `error sending request`.
fn root_cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let table: &[(&str, Option<&str>)] = &[
            ("http://127.0.0.1:7401", Some("http://127.0.0.1:7401")),
            ("http://127.0.0.1:7401/", Some("http://127.0.0.1:7401")),
            ("node:7401", Some("http://node:7401")),
            ("https://node", None),
            ("http://", None),
            ("http://node:port", None),
        ];
        for (url, expected) in table {
            assert_eq!(base_of(url).ok().as_deref(), *expected, "{url}");
        }
        assert!(Client::new(" , ", Duration::ZERO).is_err());
    }
}
