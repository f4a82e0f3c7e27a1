//! Server-sent events: turns a byte stream into the data of each event.

use super::{AttemptError, Client, Error, checked};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::Method;
use std::time::Duration;

/// A stream without a byte for this long, not even a keep-alive, counts as broken.
const SILENT_MS_MAX: u64 = 45_000;
/// The largest event.
const EVENT_BYTES_MAX: usize = 8 << 20;

pub struct Sse {
    stream: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    parser: Parser,
}

impl Client {
    /// Opens a stream at any coordinator that answers.
    pub async fn open(&self, path: &str) -> Result<Sse, Error> {
        self.with_retries(|base| async move {
            // No time limit on the stream: it may be silent for a day. Only the answer itself has one.
            let request = self.request(Method::GET, &base, path).header("Accept", "text/event-stream");
            let sent =
                tokio::time::timeout(Duration::from_millis(super::ATTEMPT_TIMEOUT_MS), request.send()).await;
            let sent = sent.map_err(|_| AttemptError::Retry(format!("{base} does not answer")))?;
            let response = checked(&base, sent).await?;
            Ok(Sse { stream: response.bytes_stream().boxed(), parser: Parser::default() })
        })
        .await
    }
}

impl Sse {
    /// The data of the next event; `None` if the stream ended or broke.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.parser.next() {
                return Some(data);
            }
            let next = tokio::time::timeout(Duration::from_millis(SILENT_MS_MAX), self.stream.next()).await;
            let Ok(Some(Ok(bytes))) = next else { return None };
            if !self.parser.push(&bytes) {
                return None;
            }
        }
    }
}

#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    data: String,
    ready: std::collections::VecDeque<String>,
}

impl Parser {
    /// Takes bytes; `false` if this is not an event stream.
    fn push(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > EVENT_BYTES_MAX {
                    return false;
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).trim_end_matches('\r').to_string();
            self.line.clear();
            if line.is_empty() {
                if !self.data.is_empty() {
                    self.ready.push_back(std::mem::take(&mut self.data));
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
                if self.data.len() > EVENT_BYTES_MAX {
                    return false;
                }
            }
        }
        true
    }

    fn next(&mut self) -> Option<String> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = ": alive\n\nid: 7\nevent: x\ndata: {\"a\":1}\n\ndata:two\r\ndata: lines\r\n\r\n:\n\ndata: unfinished";
        for size in 1..text.len() {
            let mut parser = Parser::default();
            for piece in text.as_bytes().chunks(size) {
                assert!(parser.push(piece));
            }
            assert_eq!(parser.next().as_deref(), Some("{\"a\":1}"));
            assert_eq!(parser.next().as_deref(), Some("two\nlines"));
            assert_eq!(parser.next(), None);
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        assert!((0..9).any(|_| !parser.push(&piece)));
    }
}
