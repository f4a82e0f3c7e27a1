//! The client of an annotate stage's label server, which runs on the stage's worker.

use super::CONNECT_TIMEOUT_MS;
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use std::time::Duration;

/// Large exports take long, and a label waits for a commit.
const ANSWER_TIMEOUT_MS: u64 = 120_000;
/// The most invalid lines that are listed.
const LINES_SHOWN_MAX: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum LabelingError {
    #[error("{0}")]
    Unreachable(String),
    /// It rejected the request and did nothing.
    #[error("{0}")]
    Refused(String),
    /// It may or may not have done it, or cannot at the moment.
    #[error("{0}")]
    Unavailable(String),
}

/// The body of an error response.
#[derive(Debug, Deserialize)]
struct ErrorBody {
    message: String,
    #[serde(default)]
    lines: Vec<LineError>,
}

#[derive(Debug, Deserialize)]
struct LineError {
    line: usize,
    message: String,
}

#[derive(Clone, Debug)]
pub struct LabelingClient {
    http: reqwest::Client,
    url: String,
}

impl LabelingClient {
    pub fn new(url: &str) -> Result<LabelingClient, LabelingError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .timeout(Duration::from_millis(ANSWER_TIMEOUT_MS))
            .build()
            .map_err(|error| LabelingError::Unreachable(format!("cannot ask {url}: {error}")))?;
        Ok(LabelingClient { http, url: url.trim_end_matches('/').to_string() })
    }

    pub async fn get(&self, path: &str) -> Result<Vec<u8>, LabelingError> {
        self.ask(self.http.get(format!("{}{path}", self.url))).await
    }

    /// Posts JSON lines to `path`.
    pub async fn lines(&self, path: &str, lines: Vec<u8>) -> Result<Vec<u8>, LabelingError> {
        self.ask(
            self.http
                .post(format!("{}{path}", self.url))
                .header("content-type", "application/x-ndjson")
                .body(lines),
        )
        .await
    }

    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<Vec<u8>, LabelingError> {
        self.ask(self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Vec<u8>, LabelingError> {
        let silent = |error: reqwest::Error| {
            let why = super::root_cause(&error);
            if error.is_connect() {
                LabelingError::Unreachable(why)
            } else {
                LabelingError::Unavailable(format!("{} broke off: {why}", self.url))
            }
        };
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(silent)?;
        if status.is_success() {
            return Ok(bytes.to_vec());
        }
        let message = said(status, &bytes);
        Err(if status.is_client_error() {
            LabelingError::Refused(message)
        } else {
            LabelingError::Unavailable(message)
        })
    }
}

fn said(status: StatusCode, bytes: &[u8]) -> String {
    let Ok(wrong) = serde_json::from_slice::<ErrorBody>(bytes) else {
        return format!("the form answers {status}");
    };
    let lines = wrong
        .lines
        .iter()
        .take(LINES_SHOWN_MAX)
        .map(|line| format!("\n  line {}: {}", line.line, line.message));
    let more = match wrong.lines.len().saturating_sub(LINES_SHOWN_MAX) {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    };
    wrong.message + &lines.collect::<String>() + &more
}
