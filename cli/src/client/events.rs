//! A stream of events that continues at another coordinator when it breaks, without loss or repetition.

use super::sse::Sse;
use super::{Client, Error};
use muster_protocol::ids::JobId;
use muster_protocol::view::EventView;
use std::time::{Duration, Instant};

/// Between two attempts to reconnect.
const PAUSE_MS: u64 = 200;

/// All events from a log index on.
pub struct EventTail<'a> {
    client: &'a Client,
    job: Option<JobId>,
    from: u64,
    last: Option<(u64, u32)>,
    last_event_at: Instant,
    sse: Option<Sse>,
}

impl<'a> EventTail<'a> {
    /// Starts at the log index `from`; `None` for all jobs.
    pub fn new(client: &'a Client, from: u64, job: Option<JobId>) -> EventTail<'a> {
        EventTail { client, job, from, last: None, last_event_at: Instant::now(), sse: None }
    }

    /// Opens the stream now, so that no event after this call is missed.
    pub async fn open(&mut self) -> Result<(), Error> {
        let job = self.job.map_or(String::new(), |job| format!("&job={job}"));
        let path = format!("/v1/events?from={}&follow=true{job}", self.from);
        self.sse = Some(self.client.open(&path).await?);
        Ok(())
    }

    pub async fn next(&mut self) -> Result<EventView, Error> {
        loop {
            let Some(sse) = &mut self.sse else {
                self.open().await?;
                continue;
            };
            let Some(data) = sse.next().await else {
                self.sse = None;
                self.broken("the stream of events breaks").await?;
                continue;
            };
            let Ok(event) = serde_json::from_str::<EventView>(&data) else {
                self.sse = None;
                self.broken(&format!("the stream of events has {data:.80}")).await?;
                continue;
            };
            self.last_event_at = Instant::now();
            let position = (event.index.0, event.ordinal);
            // After a break within an entry, the entry's events come again from its first.
            if self.last.is_some_and(|last| position <= last) {
                continue;
            }
            self.last = Some(position);
            self.from = event.index.0;
            return Ok(event);
        }
    }

    /// Reconnects after a break, unless breaks have followed each other for too long.
    async fn broken(&mut self, last: &str) -> Result<(), Error> {
        let silent = self.last_event_at.elapsed();
        // A quiet stream may live for long: only one that breaks again and again without an event is given
        // up.
        if silent > self.client.patience() && silent < self.client.patience() * 2 {
            return Err(Error::Unreachable {
                urls: self.client.base(),
                patience_s: self.client.patience().as_secs(),
                last: last.to_string(),
            });
        }
        if silent >= self.client.patience() * 2 {
            self.last_event_at = Instant::now();
        }
        self.client.use_next();
        tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
        Ok(())
    }
}
