//! One client's connection: reads its operations, writes its messages, and closes in order after a violation
//! of the protocol.

use super::limits::{CLIENTS_MAX, CLOSE_GRACE_MS, PAYLOAD_BYTES_MAX};
use super::parser::{self, Operation, Violation};
use super::router::{ClientState, Router};
use super::subject;
use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{sleep, timeout};

const READ_BYTES: usize = 64 << 10;
const GRACE: Duration = Duration::from_millis(CLOSE_GRACE_MS);

/// Serves one client until it leaves, violates the protocol, or falls too far behind.
pub async fn serve_client(stream: TcpStream, router: Arc<Router>, id: u64, address: SocketAddr, room: bool) {
    let _ = stream.set_nodelay(true);
    let client = Arc::new(ClientState::new(id));
    client.outbox.push(&[info(id, address).as_bytes()]);
    let (mut reader, mut writer) = stream.into_split();
    let written = {
        let writing = write_all(&client, &mut writer);
        tokio::pin!(writing);
        if room {
            tokio::select! {
                read = read_all(&client, &router, &mut reader) => match read {
                    Ok(violation) => {
                        client.outbox.close(violation.message());
                        writing.await
                    }
                    Err(error) => Err(error),
                },
                written = &mut writing => written,
            }
        } else {
            tracing::warn!(clients_max = CLIENTS_MAX, "a bus client was refused");
            client.outbox.close("maximum connections exceeded");
            writing.await
        }
    };
    router.leave(&client);
    if written.is_ok() {
        // Reads and drops what the client still sends: closing with unread bytes would reset the connection,
        // and the client might never see the final error.
        let farewell = async {
            writer.shutdown().await?;
            tokio::io::copy(&mut reader, &mut tokio::io::sink()).await
        };
        let _ = timeout(GRACE, farewell).await;
    }
}

fn info(id: u64, address: SocketAddr) -> String {
    let info = serde_json::json!({
        "server_id": "muster-embedded-broker",
        "server_name": "muster-embedded-broker",
        "version": "2.9.0",
        "proto": 1,
        "host": address.ip().to_string(),
        "port": address.port(),
        "headers": true,
        "max_payload": PAYLOAD_BYTES_MAX,
        "client_id": id,
    });
    format!("INFO {info}\r\n")
}

/// Writes until the outbox is closed and empty. After the close, a client that reads nothing gets a short
/// grace period.
async fn write_all(client: &ClientState, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    while let Some(bytes) = client.outbox.take().await {
        let given_up = async {
            client.outbox.closed().await;
            sleep(GRACE).await;
        };
        tokio::select! {
            written = writer.write_all(&bytes) => written?,
            () = given_up => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    Ok(())
}

/// Handles the client's operations until it violates the protocol (`Ok`) or leaves (`Err`).
async fn read_all(
    client: &Arc<ClientState>,
    router: &Router,
    reader: &mut OwnedReadHalf,
) -> io::Result<Violation> {
    let mut input = BytesMut::with_capacity(READ_BYTES);
    loop {
        loop {
            match parser::next(&mut input) {
                Ok(Some(operation)) => {
                    if let Err(violation) = handle(client, router, operation) {
                        return Ok(violation);
                    }
                }
                Ok(None) => break,
                Err(violation) => return Ok(violation),
            }
        }
        input.reserve(READ_BYTES);
        if reader.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn handle(client: &Arc<ClientState>, router: &Router, operation: Operation) -> Result<(), Violation> {
    let answered = match operation {
        Operation::Connect(options) => {
            client.set_options(options);
            true
        }
        Operation::Ping => {
            client.outbox.push(&[b"PONG\r\n"]);
            false
        }
        Operation::Ignored => false,
        Operation::Publish(message) => {
            if message.header_bytes > 0 && !client.options().headers {
                return Err(Violation::Headers);
            }
            // As nats-server does: the publisher gets an error, and a subscription to exactly this subject
            // still gets the message.
            if !subject::is_literal(&message.subject) {
                client.outbox.push(&[b"-ERR 'Invalid Publish Subject'\r\n"]);
            }
            // The +OK comes before the publisher's own copy of the message.
            if client.options().verbose {
                client.outbox.push(&[b"+OK\r\n"]);
            }
            router.publish(client, &message);
            false
        }
        Operation::Subscribe { pattern, queue, sid } => {
            if !subject::is_pattern(&pattern) {
                client.outbox.push(&[b"-ERR 'Invalid Subject'\r\n"]);
                return Ok(());
            }
            if !router.subscribe(client, sid, pattern, queue) {
                client.outbox.push(&[b"-ERR 'maximum subscriptions exceeded'\r\n"]);
                return Ok(());
            }
            true
        }
        Operation::Unsubscribe { sid, deliveries_max } => {
            router.unsubscribe(client, &sid, deliveries_max);
            true
        }
    };
    if answered && client.options().verbose {
        client.outbox.push(&[b"+OK\r\n"]);
    }
    Ok(())
}
