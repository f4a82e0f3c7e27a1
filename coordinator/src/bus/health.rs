//! How the bus is, in words and in numbers.

use async_nats::Event;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Shared between the tasks of the bus and those who ask.
#[derive(Debug)]
pub struct Health {
    address: String,
    words: Mutex<String>,
    sent: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    slow: AtomicU64,
}

impl Health {
    /// Not connected yet.
    pub fn new(address: &str) -> Health {
        let words = Mutex::new(format!("not connected to {address} yet"));
        let count = AtomicU64::default;
        Health {
            address: address.to_string(),
            words,
            sent: count(),
            received: count(),
            dropped: count(),
            refused: count(),
            slow: count(),
        }
    }

    /// `connected`, or what is wrong.
    pub fn words(&self) -> String {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// By name: messages sent, received, dropped for want of a connection or of room, refused as garbage; and
    /// moments at which messages came faster than they were taken, and some were lost.
    pub fn counters(&self) -> [(&'static str, u64); 5] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("bus_sent", read(&self.sent)),
            ("bus_received", read(&self.received)),
            ("bus_dropped", read(&self.dropped)),
            ("bus_refused", read(&self.refused)),
            ("bus_slow", read(&self.slow)),
        ]
    }

    /// A message was sent.
    pub fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A message came.
    pub fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was dropped.
    pub fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was no message of ours.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The client says how things are.
    pub fn event(&self, event: &Event) {
        let address = &self.address;
        match event {
            Event::Connected => {
                tracing::info!(address, "connected to the broker");
                self.say("connected".to_string());
            }
            Event::Disconnected | Event::Closed => {
                tracing::warn!(address, "the connection to the broker broke; trying on");
                self.say(format!("disconnected from {address}; trying on"));
            }
            Event::SlowConsumer(_) => {
                // The first, and then each time that the count doubles.
                if self.slow.fetch_add(1, Ordering::Relaxed).wrapping_add(1).is_power_of_two() {
                    tracing::warn!(
                        address,
                        "messages of workers come faster than they are taken; some were lost, and will be said again"
                    );
                }
            }
            Event::LameDuckMode | Event::Draining => {
                tracing::info!(address, %event, "the broker is about to end")
            }
            Event::ServerError(_) | Event::ClientError(_) => {
                tracing::warn!(address, %event, "the broker or its client complains")
            }
        }
    }

    fn say(&self, words: String) {
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }
}
