//! The same conversations with the embedded broker and with a real `nats-server`: what they answer is to be
//! equal.

use super::limits::OUT_BYTES_MAX;
use super::{Error, bind, serve};
use async_nats::{Client, HeaderMap};
use futures::StreamExt;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A conversation that gets no answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker that ends with the test.
enum Broker {
    Embedded(JoinHandle<Result<(), Error>>),
    NatsServer(Child),
}

impl Drop for Broker {
    fn drop(&mut self) {
        match self {
            Broker::Embedded(serving) => serving.abort(),
            Broker::NatsServer(child) => {
                child.kill().expect("the server runs until it is killed");
                child.wait().expect("a killed server is waited for");
            }
        }
    }
}

async fn embedded() -> (Broker, SocketAddr) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    (Broker::Embedded(tokio::spawn(serve(listener))), address)
}

async fn nats_server() -> (Broker, SocketAddr) {
    // The port is free until the server takes it, a moment later; a test that loses this race says so.
    let address = bind("127.0.0.1:0".parse().unwrap()).await.unwrap().local_addr().unwrap();
    let child = Command::new("nats-server")
        .args(["--addr", "127.0.0.1", "--port", &address.port().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server is on the PATH; `cargo xtask test` installs it from the system's packages");
    let broker = Broker::NatsServer(child);
    let connected = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, connected).await.expect("nats-server listens");
    (broker, address)
}

async fn client(address: SocketAddr) -> Client {
    async_nats::connect(format!("nats://{address}")).await.expect("the broker takes a client")
}

/// Returns once the broker has done all that this client said before: its own message comes back to it.
async fn settle(client: &Client) {
    let inbox = client.new_inbox();
    let mut own = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, "".into()).await.unwrap();
    own.next().await.unwrap();
}

fn line(message: &async_nats::Message) -> String {
    let headers = message.headers.as_ref().map(|headers| format!(" {headers:?}")).unwrap_or_default();
    format!("{} {}{headers}", message.subject, String::from_utf8_lossy(&message.payload))
}

/// Everything the system uses of NATS, through the client that it uses; gives what was heard.
async fn conversation(address: SocketAddr) -> Vec<String> {
    let mut heard = Vec::new();
    let (speaker, listener) = (client(address).await, client(address).await);
    let mut wild = listener.subscribe("muster.demo.v1.up.*").await.unwrap();
    let mut all = listener.subscribe("muster.>").await.unwrap();
    let mut exact = listener.subscribe("muster.demo.v1.down.a.b").await.unwrap();
    settle(&listener).await;
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", "00-1-2-01");
    for n in 0..3 {
        speaker.publish("muster.demo.v1.up.w1", format!("report {n}").into()).await.unwrap();
    }
    speaker.publish("muster.demo.v1.up.w1.deeper", "too deep for a star".into()).await.unwrap();
    speaker.publish_with_headers("muster.demo.v1.down.a.b", headers, "with headers".into()).await.unwrap();
    speaker.publish("muster.demo.v1.down.a.b", vec![b'x'; 1 << 20].into()).await.unwrap();
    speaker.publish("muster.demo.v1.up.w2", "".into()).await.unwrap();
    speaker.flush().await.unwrap();
    for _ in 0..4 {
        heard.push(format!("wild: {}", line(&wild.next().await.unwrap())));
    }
    for _ in 0..2 {
        let message = exact.next().await.unwrap();
        heard.push(format!("exact: {} bytes, headers {:?}", message.payload.len(), message.headers));
    }
    for _ in 0..7 {
        let message = all.next().await.unwrap();
        heard.push(format!("all: {} {}", message.subject, message.payload.len()));
    }

    // A request with an answer, and one that nobody hears.
    let mut asked = listener.subscribe("question").await.unwrap();
    settle(&listener).await;
    let answerer = tokio::spawn({
        let listener = listener.clone();
        async move {
            let question = asked.next().await.unwrap();
            listener.publish(question.reply.unwrap(), "answer".into()).await.unwrap();
        }
    });
    heard.push(format!("answer: {:?}", speaker.request("question", "?".into()).await.unwrap().payload));
    answerer.await.unwrap();
    heard.push(format!("nobody: {}", speaker.request("nobody", "?".into()).await.unwrap_err()));

    // No more than two; then none at all.
    let mut two = listener.subscribe("counted").await.unwrap();
    two.unsubscribe_after(2).await.unwrap();
    let mut gone = listener.subscribe("counted").await.unwrap();
    gone.unsubscribe().await.unwrap();
    settle(&listener).await;
    for n in 0..4 {
        speaker.publish("counted", format!("{n}").into()).await.unwrap();
    }
    speaker.flush().await.unwrap();
    while let Some(message) = two.next().await {
        heard.push(format!("counted: {}", line(&message)));
    }
    heard.push(format!("unsubscribed: {:?}", gone.next().await.map(|m| line(&m))));

    // Of a queue group, exactly one hears each message.
    let mut first = listener.queue_subscribe("shared", "group".into()).await.unwrap();
    let mut second = speaker.queue_subscribe("shared", "group".into()).await.unwrap();
    settle(&listener).await;
    settle(&speaker).await;
    for n in 0..20 {
        speaker.publish("shared", format!("{n}").into()).await.unwrap();
    }
    let mut got = Vec::new();
    while got.len() < 20 {
        let message = tokio::select! {
            message = first.next() => message,
            message = second.next() => message,
        };
        got.push(line(&message.unwrap()));
    }
    got.sort();
    heard.extend(got);
    heard
}

/// Sends the script, then a ping of its own, and gives every answer up to the pong or the end of the
/// connection.
async fn raw(address: SocketAddr, script: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut heard = Vec::new();
    // The broker speaks first; what it says of itself differs.
    while !heard.ends_with(b"\r\n") {
        stream.read_buf(&mut heard).await.unwrap();
    }
    heard.clear();
    stream.write_all(&[script, b"PING\r\n"].concat()).await.unwrap();
    let answers = async {
        while !heard.ends_with(b"PONG\r\n") {
            match stream.read_buf(&mut heard).await {
                Ok(0) | Err(_) => {
                    heard.extend_from_slice(b"[closed]");
                    break;
                }
                Ok(_) => {}
            }
        }
    };
    timeout(PATIENCE, answers).await.expect("an answer or an end");
    String::from_utf8_lossy(&heard).into_owned()
}

const QUIET: &str = "CONNECT {\"verbose\":false}\r\n";

/// Scripts on which the two answer word for word alike.
fn scripts() -> Vec<String> {
    let bodies = [
        "",
        "SUB a..b 1\r\nSUB foo.> 2\r\nSUB >.foo 3\r\n",
        "SUB foo.* 1\r\nPUB foo.bar 2\r\nab\r\nPUB foo.bar.baz 1\r\nx\r\n",
        "SUB foo 1\r\nUNSUB 1 2\r\nPUB foo 0\r\n\r\nPUB foo 0\r\n\r\nPUB foo 0\r\n\r\nSUB foo 1\r\nPUB foo reply 1\r\nx\r\n",
        "SUB foo 1\r\nSUB foo 1\r\nSUB foo 2\r\nUNSUB 2\r\nUNSUB 9\r\nPUB foo 1\r\na\r\n",
        "sub foo 1\r\npub foo 1\r\na\r\n",
        "PUB foo..bar 1\r\na\r\n",
        "GARBAGE\r\n",
        "\u{0}\u{1}\u{2}\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\n\r\n",
        "PUB foo 2000000\r\n",
        "PUB foo 2\r\nabc\r\n",
        "MSG foo 1 0\r\n\r\n",
        "INFO {}\r\n",
    ];
    let mut scripts: Vec<String> = bodies.iter().map(|body| format!("{QUIET}{body}")).collect();
    scripts.push("CONNECT {\"verbose\":true}\r\nSUB foo q 1\r\nPUB foo 1\r\na\r\nUNSUB 1\r\n".to_string());
    scripts.push("CONNECT {\"verbose\":false,\"echo\":false}\r\nSUB foo 1\r\nPUB foo 1\r\na\r\n".to_string());
    scripts.push(
        "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB inbox 1\r\nPUB foo inbox 0\r\n\r\nSUB foo 2\r\nHPUB foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
            .to_string(),
    );
    scripts
}

#[tokio::test]
async fn it_refuses_to_be_reached_from_elsewhere() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4222"] {
        let error = bind(address.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, Error::NotLoopback { .. }), "{address}: {error}");
    }
    let open = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    assert!(matches!(serve(open).await, Err(Error::NotLoopback { .. })));
}

#[tokio::test]
async fn the_client_hears_the_same_from_both_brokers() {
    let (_ours, ours) = embedded().await;
    let (_real, real) = nats_server().await;
    let heard = timeout(PATIENCE, conversation(ours)).await.expect("the embedded broker answers");
    let expected = timeout(PATIENCE, conversation(real)).await.expect("nats-server answers");
    assert_eq!(heard, expected);
    assert!(heard.len() > 35, "{heard:?}");
}

#[tokio::test]
async fn words_and_errors_are_those_of_nats_server() {
    let (_ours, ours) = embedded().await;
    let (_real, real) = nats_server().await;
    for script in scripts() {
        assert_eq!(raw(ours, script.as_bytes()).await, raw(real, script.as_bytes()).await, "{script:?}");
    }
    // Here nats-server closes without a word; we say why.
    for script in ["PUB foo x\r\n", "PUB foo\r\n", "SUB foo\r\n", "CONNECT {bad\r\n", "HPUB foo 10 5\r\n"] {
        let script = [QUIET, script].concat();
        assert_eq!(raw(real, script.as_bytes()).await, "[closed]", "{script:?}");
        assert_eq!(raw(ours, script.as_bytes()).await, "-ERR 'Parser Error'\r\n[closed]", "{script:?}");
    }
    let long = format!("{QUIET}PUB {}", "a".repeat(5000));
    assert_eq!(raw(ours, long.as_bytes()).await, "-ERR 'maximum control line exceeded'\r\n[closed]");
}

#[tokio::test]
async fn a_client_that_breaks_off_harms_nobody() {
    let (_broker, address) = embedded().await;
    let script = b"CONNECT {\"verbose\":false}\r\nSUB foo 1\r\nPUB foo 5\r\nhello\r\nUNSUB 1\r\n";
    for cut in 0..script.len() {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&script[..cut]).await.unwrap();
        drop(stream);
    }
    assert_eq!(raw(address, QUIET.as_bytes()).await, "PONG\r\n");
}

#[tokio::test]
async fn a_slow_consumer_is_disconnected_and_the_others_hear_everything() {
    let (_broker, address) = embedded().await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"CONNECT {\"verbose\":false}\r\nSUB flood 1\r\nPING\r\n").await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"PONG\r\n") {
        slow.read_buf(&mut heard).await.unwrap();
    }
    let (speaker, listener) = (client(address).await, client(address).await);
    let mut flood = listener.subscribe("flood").await.unwrap();
    settle(&listener).await;
    // More than the outbox and the kernel's buffers hold together.
    let count = OUT_BYTES_MAX / (1 << 20) + 32;
    let listening = tokio::spawn(async move {
        for n in 0..count {
            let message =
                timeout(PATIENCE, flood.next()).await.expect("a fast reader is not cut off").unwrap();
            assert_eq!(message.payload[..8], (n as u64).to_le_bytes());
        }
    });
    for n in 0..count {
        let mut payload = vec![0; 1 << 20];
        payload[..8].copy_from_slice(&(n as u64).to_le_bytes());
        speaker.publish("flood", payload.into()).await.unwrap();
        speaker.flush().await.unwrap();
    }
    listening.await.unwrap();
    let mut received = 0;
    let mut chunk = vec![0; 1 << 20];
    let drained = async {
        loop {
            match slow.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(bytes) => received += bytes,
            }
        }
    };
    timeout(PATIENCE, drained).await.expect("the slow consumer was disconnected");
    assert!(received < count << 20, "it missed something: that is why it was disconnected");
}

#[tokio::test]
async fn clients_come_back_after_a_restart() {
    let (broker, address) = embedded().await;
    let (speaker, listener) = (client(address).await, client(address).await);
    let mut subscription = listener.subscribe("again").await.unwrap();
    settle(&listener).await;
    drop(broker);
    let restarted = async {
        loop {
            match bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let serving = Broker::Embedded(tokio::spawn(serve(
        timeout(PATIENCE, restarted).await.expect("the address is free again"),
    )));
    // What is said while a client is away is lost, as with any broker: say it until it is heard.
    let heard = async {
        loop {
            speaker.publish("again", "hello".into()).await.unwrap();
            if let Ok(message) = timeout(Duration::from_millis(100), subscription.next()).await {
                break message.unwrap();
            }
        }
    };
    assert_eq!(timeout(PATIENCE, heard).await.expect("both clients came back").payload, "hello");
    drop(serving);
}
