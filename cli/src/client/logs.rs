//! The output of an attempt; a broken stream continues at the byte where it broke.

use super::sse::Sse;
use super::{Client, Error};
use muster_protocol::bus::Stream;
use muster_protocol::view::LogView;
use std::time::Duration;

/// Between two attempts to reconnect.
const PAUSE_MS: u64 = 300;
/// A stream that breaks this often in a row without new output is given up.
const BREAKS_MAX: u32 = 20;

pub struct LogTail<'a> {
    client: &'a Client,
    /// The id of a task or an attempt.
    of: String,
    stream: Stream,
    follow: bool,
    offset: u64,
    breaks: u32,
    ended: bool,
    sse: Option<Sse>,
}

impl<'a> LogTail<'a> {
    /// `of` is a task, for its newest attempt, or an attempt.
    pub fn new(client: &'a Client, of: String, stream: Stream, follow: bool) -> LogTail<'a> {
        LogTail { client, of, stream, follow, offset: 0, breaks: 0, ended: false, sse: None }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<LogView>, Error> {
        while !self.ended {
            let Some(sse) = &mut self.sse else {
                let of = self.of.replace('#', "%23");
                let path = format!(
                    "/v1/tasks/{of}/logs?stream={}&offset={}&follow={}",
                    self.stream, self.offset, self.follow
                );
                self.sse = Some(self.client.open(&path).await?);
                continue;
            };
            let piece = sse.next().await.and_then(|data| serde_json::from_str::<LogView>(&data).ok());
            let Some(piece) = piece else {
                self.sse = None;
                self.breaks += 1;
                if self.breaks > BREAKS_MAX {
                    let last = format!("the output of {} breaks off", self.of);
                    return Err(Error::Unreachable {
                        urls: self.client.base(),
                        patience_s: self.client.patience().as_secs(),
                        last,
                    });
                }
                self.client.use_next();
                tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
                continue;
            };
            if !piece.text.is_empty() {
                self.breaks = 0;
            }
            self.offset = piece.next.max(self.offset);
            self.ended = piece.end || !piece.error.is_empty();
            return Ok(Some(piece));
        }
        Ok(None)
    }
}
