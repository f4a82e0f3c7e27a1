//! What workers say: each message is read, checked and handed to the replica; garbage is counted and told,
//! and goes no further.

use super::health::Health;
use crate::process::{Complaints, Inlet, Refused};
use async_nats::Client;
use futures::StreamExt;
use muster_protocol::bus::UpEnvelope;
use muster_protocol::limits::BUS_MESSAGE_BYTES_MAX;
use muster_protocol::{codec, subjects};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// After a subscription that ended or failed.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Listens until dropped, or until the replica has ended.
pub async fn listen(client: Client, cluster: String, inlet: Inlet, health: Arc<Health>) {
    let complaints = Complaints::default();
    loop {
        match client.subscribe(subjects::up_all(&cluster)).await {
            Ok(mut messages) => {
                while let Some(message) = messages.next().await {
                    health.received();
                    match read(&message.payload, &cluster) {
                        Ok(envelope) => {
                            if inlet.up(envelope, message.payload.len()).await == Err(Refused::Ended) {
                                return;
                            }
                        }
                        Err(reason) => {
                            health.refused();
                            if let Some(withheld) = complaints.next() {
                                let subject = message.subject.as_str();
                                tracing::warn!(subject, reason, withheld, "a message on the bus was refused");
                            }
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot listen to the workers; trying on"),
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
    fn garbage_and_other_clusters_are_refused() {
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
