//! Messages from workers: each is parsed, checked and passed to the replica. Invalid ones are counted and
//! logged.

use super::health::ConnectionHealth;
use crate::handle::{HandleError, ReplicaHandle};
use async_nats::Client;
use futures::StreamExt;
use muster_host::log_throttle::LogThrottle;
use muster_protocol::bus::UpEnvelope;
use muster_protocol::limits::BUS_MESSAGE_BYTES_MAX;
use muster_protocol::{codec, subjects};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// The pause after a subscription ended or failed.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Log lines about invalid messages per [`LOG_WINDOW`].
const LOG_LINES_MAX: u32 = 20;
const LOG_WINDOW: Duration = Duration::from_secs(10);

/// Listens until dropped, or until the replica has ended.
pub async fn listen(client: Client, cluster: String, replica: ReplicaHandle, health: Arc<ConnectionHealth>) {
    let throttle = LogThrottle::new(LOG_LINES_MAX, LOG_WINDOW);
    loop {
        match client.subscribe(subjects::up_all(&cluster)).await {
            Ok(mut messages) => {
                while let Some(message) = messages.next().await {
                    health.received();
                    match read(&message.payload, &cluster) {
                        Ok(envelope) => {
                            if replica.up(envelope, message.payload.len()).await == Err(HandleError::Closed) {
                                return;
                            }
                        }
                        Err(reason) => {
                            health.refused();
                            if let Some(withheld) = throttle.admit() {
                                let subject = message.subject.as_str();
                                tracing::warn!(subject, reason, withheld, "refused a message on the bus");
                            }
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot subscribe to the workers; trying again"),
        }
        sleep(RETRY_INTERVAL).await;
    }
}

fn read(payload: &[u8], cluster: &str) -> Result<UpEnvelope, String> {
    let envelope: UpEnvelope =
        codec::open(payload, BUS_MESSAGE_BYTES_MAX).map_err(|error| error.to_string())?;
    if envelope.cluster == cluster {
        Ok(envelope)
    } else {
        Err(format!("it is of the cluster {:?}", envelope.cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::bus::{Draining, Up};

    #[test]
    fn invalid_messages_and_other_clusters_are_refused() {
        let envelope = UpEnvelope {
            cluster: "test".to_string(),
            identity: Default::default(),
            boot: Default::default(),
            trace: String::new(),
            message: Up::Draining(Draining {}),
        };
        let bytes = codec::seal(&envelope);
        assert_eq!(read(&bytes, "test"), Ok(envelope));
        assert!(read(&bytes, "other").unwrap_err().contains("\"test\""));
        assert!(read(&bytes[..bytes.len() - 1], "test").is_err());
        assert!(read(b"GET / HTTP/1.1", "test").is_err());
        assert!(read(&vec![1; BUS_MESSAGE_BYTES_MAX + 2], "test").unwrap_err().contains("limit"));
    }
}
