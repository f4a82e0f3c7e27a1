//! The bus against a real `nats-server`: absent at the start, then there, then gone, then there again.

use super::*;
use crate::handle::ReplicaMsg;
use muster_protocol::bus::{Down, Draining, SayHello, Up, UpEnvelope};
use muster_protocol::ids::Term;
use muster_replica::Input;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Instant;
use tokio::time::sleep;

/// Without progress for this long, a test fails.
const STALLED: Duration = Duration::from_secs(60);
const IDENTITY: WorkerIdentity = WorkerIdentity(7);
const BOOT: BootId = BootId(8);

struct Broker(Child);

impl Broker {
    fn start(port: u16) -> Broker {
        let mut command = Command::new("nats-server");
        command
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Broker(command.spawn().expect("nats-server is on the PATH"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn up(cluster: &str) -> Vec<u8> {
    let message = Up::Draining(Draining {});
    codec::seal(&UpEnvelope {
        cluster: cluster.to_string(),
        identity: IDENTITY,
        boot: BOOT,
        trace: String::new(),
        message,
    })
}

/// Sends a message each way until both arrive: a broker that restarts may lose some.
async fn converse(worker: &Client, downlink: &Downlink, messages: &Receiver<ReplicaMsg>) {
    let mut heard = worker.subscribe(subjects::down("test", IDENTITY, BOOT)).await.unwrap();
    let (since, mut arrived, mut reached) = (Instant::now(), false, false);
    while !(arrived && reached) {
        assert!(since.elapsed() < STALLED, "up arrived: {arrived}, down arrived: {reached}");
        for payload in [up("test"), up("other"), b"garbage".to_vec()] {
            worker.publish(subjects::up("test", IDENTITY), payload.into()).await.unwrap();
        }
        let message = Down::SayHello(SayHello {});
        let envelope = DownEnvelope {
            cluster: "test".to_string(),
            term: Term(1),
            boot: BOOT,
            trace: String::new(),
            message,
        };
        downlink.send(IDENTITY, BOOT, &envelope);
        sleep(Duration::from_millis(50)).await;
        loop {
            match messages.try_recv() {
                Ok(ReplicaMsg::Input(input, _)) => match *input {
                    Input::Up(envelope) => {
                        arrived |= envelope.identity == IDENTITY && envelope.cluster == "test"
                    }
                    other => panic!("{other:?}"),
                },
                Err(TryRecvError::Empty) => break,
                _ => panic!("unexpected message"),
            }
        }
        let next = tokio::time::timeout(Duration::from_millis(1), futures::StreamExt::next(&mut heard)).await;
        if let Ok(Some(message)) = next {
            assert_eq!(codec::open::<DownEnvelope>(&message.payload, BUS_MESSAGE_BYTES_MAX), Ok(envelope));
            reached = true;
        }
    }
}

async fn await_status(bus: &BusStatus, text: &str) {
    let since = Instant::now();
    while !bus.describe().starts_with(text) {
        assert!(since.elapsed() < STALLED, "{:?} is not {text:?}", bus.describe());
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_may_come_late_and_go() {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let address = format!("nats://127.0.0.1:{port}");
    let (downlink, bus, driver) = prepare("test", "c1", &address).unwrap();
    let (sender, messages) = sync_channel(1024);
    let mut tasks = JoinSet::new();
    driver.start(ReplicaHandle::new(sender), &mut tasks).await.unwrap();
    await_status(&bus, "not connected").await;

    let broker = Broker::start(port);
    await_status(&bus, "connected").await;
    let worker = ConnectOptions::new()
        .retry_on_initial_connect()
        .max_reconnects(None)
        .connect(&address)
        .await
        .unwrap();
    converse(&worker, &downlink, &messages).await;
    drop(broker);
    await_status(&bus, "disconnected").await;
    let _broker = Broker::start(port);
    converse(&worker, &downlink, &messages).await;
    let counters: std::collections::BTreeMap<_, _> = bus.counters().into();
    assert!(
        counters["bus_sent"] > 0 && counters["bus_received"] > 0 && counters["bus_refused"] > 0,
        "{counters:?}"
    );
    tasks.shutdown().await;
}

#[test]
fn an_invalid_address_is_refused() {
    assert!(prepare("test", "c1", "nats://h:4222,nats://[").is_err());
}
