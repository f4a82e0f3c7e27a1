//! The state of the bus, as text and as counters.

use async_nats::Event;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Shared between the tasks of the bus and the status page.
#[derive(Debug)]
pub struct ConnectionHealth {
    address: String,
    text: Mutex<String>,
    sent: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    slow: AtomicU64,
}

impl ConnectionHealth {
    pub fn new(address: &str) -> ConnectionHealth {
        let text = Mutex::new(format!("not connected to {address} yet"));
        let count = AtomicU64::default;
        ConnectionHealth {
            address: address.to_string(),
            text,
            sent: count(),
            received: count(),
            dropped: count(),
            refused: count(),
            slow: count(),
        }
    }

    /// `connected`, or what is wrong.
    pub fn describe(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// By name: messages sent, received, dropped without a connection or without room, and refused as
    /// invalid; and how often messages arrived faster than they were read, and some were lost.
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

    pub fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Follows an event of the client.
    pub fn event(&self, event: &Event) {
        let address = &self.address;
        match event {
            Event::Connected => {
                tracing::info!(address, "connected to the broker");
                self.set("connected".to_string());
            }
            Event::Disconnected | Event::Closed => {
                tracing::warn!(address, "lost the connection to the broker; trying again");
                self.set(format!("disconnected from {address}; trying on"));
            }
            Event::SlowConsumer(_) => {
                // The first, and then each time that the count doubles.
                if self.slow.fetch_add(1, Ordering::Relaxed).wrapping_add(1).is_power_of_two() {
                    tracing::warn!(
                        address,
                        "messages from workers arrive faster than they are read; some were lost and will be resent"
                    );
                }
            }
            Event::LameDuckMode | Event::Draining => {
                tracing::info!(address, %event, "the broker is shutting down")
            }
            Event::ServerError(_) | Event::ClientError(_) => {
                tracing::warn!(address, %event, "the broker or its client reports an error")
            }
        }
    }

    fn set(&self, text: String) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}
