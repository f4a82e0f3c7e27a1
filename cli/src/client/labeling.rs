//! The form of an annotate stage, as a program uses it: another server than the cluster's, on the worker that
//! runs the stage.

use super::CONNECT_TIMEOUT_MS;
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use std::time::Duration;

/// A large export takes its time, and a label waits for a leader.
const ANSWER_TIMEOUT_MS: u64 = 120_000;
/// Lines that are wrong are listed up to so many.
const LINES_SHOWN_MAX: usize = 20;

/// Why the form did not do it.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// It does not answer.
    #[error("{0}")]
    Silent(String),
    /// It refused, and did nothing.
    #[error("{0}")]
    Refused(String),
    /// It is not known whether it did it, or it could not now.
    #[error("{0}")]
    Unknown(String),
}

/// What the form says is wrong.
#[derive(Debug, Deserialize)]
struct Wrong {
    message: String,
    #[serde(default)]
    lines: Vec<WrongLine>,
}

#[derive(Debug, Deserialize)]
struct WrongLine {
    line: usize,
    message: String,
}

/// The form at a URL.
#[derive(Clone, Debug)]
pub struct Form {
    http: reqwest::Client,
    url: String,
}

impl Form {
    /// The form at `url`.
    pub fn new(url: &str) -> Result<Form, FormError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .timeout(Duration::from_millis(ANSWER_TIMEOUT_MS))
            .build()
            .map_err(|error| FormError::Silent(format!("cannot ask {url}: {error}")))?;
        Ok(Form { http, url: url.trim_end_matches('/').to_string() })
    }

    /// What is at `path`.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, FormError> {
        self.ask(self.http.get(format!("{}{path}", self.url))).await
    }

    /// Brings lines to `path`.
    pub async fn lines(&self, path: &str, lines: Vec<u8>) -> Result<Vec<u8>, FormError> {
        self.ask(
            self.http
                .post(format!("{}{path}", self.url))
                .header("content-type", "application/x-ndjson")
                .body(lines),
        )
        .await
    }

    /// Posts JSON to `path`.
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<Vec<u8>, FormError> {
        self.ask(self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Vec<u8>, FormError> {
        let silent = |error: reqwest::Error| {
            let why = super::deepest(&error);
            if error.is_connect() {
                FormError::Silent(why)
            } else {
                FormError::Unknown(format!("{} broke off: {why}", self.url))
            }
        };
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(silent)?;
        if status.is_success() {
            return Ok(bytes.to_vec());
        }
        let message = said(status, &bytes);
        Err(if status.is_client_error() { FormError::Refused(message) } else { FormError::Unknown(message) })
    }
}

fn said(status: StatusCode, bytes: &[u8]) -> String {
    let Ok(wrong) = serde_json::from_slice::<Wrong>(bytes) else {
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
