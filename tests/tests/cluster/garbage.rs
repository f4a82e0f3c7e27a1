//! Garbage and truncated bytes on every port: the cluster rejects them and keeps working.

use crate::{await_end, leader_api};
use muster_protocol::ids::{BootId, WorkerIdentity};
use muster_protocol::outcome::Terminal;
use muster_protocol::spec::{Noop, Work};
use muster_protocol::subjects;
use muster_tests::cluster::api::{job_of, new_request, stage_of};
use muster_tests::cluster::{Cluster, Shape};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Sends bytes, and reads until the other side closes or stays silent.
fn throw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // The other side may close early.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 1024]);
}

fn random_bytes(random: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes
}

fn still_works(cluster: &Cluster) {
    let job = leader_api(cluster)
        .submit(&job_of("after", stage_of("only", 3, Work::Noop(Noop {}))), new_request())
        .unwrap();
    assert_eq!(await_end(cluster, job).terminal, Some(Terminal::Succeeded));
}

#[test]
fn garbage_does_not_harm_the_peer_port_or_the_api() {
    let mut cluster = Cluster::start(Shape::default()).unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let leader = cluster.leader();
    let term = cluster.api(leader).status().unwrap().term;
    for address in [cluster.member(leader).peer, cluster.member(leader).http] {
        for length in [1, 4, 100, 70_000] {
            throw(address, &random_bytes(&mut random, length));
        }
        throw(address, &u32::MAX.to_le_bytes());
        throw(address, b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{");
        throw(address, b"");
    }
    let api = cluster.api(leader);
    let table: &[(&str, u16)] =
        &[("{", 400), ("[]", 400), (r#"{"name": 3}"#, 400), (r#"{"name": "x", "stages": []}"#, 400)];
    for (body, status) in table {
        let answer =
            api.post("/v1/jobs").header("Content-Type", "application/json").body(*body).send().unwrap();
        assert_eq!(answer.status().as_u16(), *status, "{body}");
        let document: serde_json::Value = answer.json().unwrap();
        assert!(
            document["message"].as_str().is_some_and(|message| !message.is_empty()),
            "{body}: {document}"
        );
    }
    let oversized =
        api.post("/v1/jobs").header("Content-Type", "application/json").body(vec![b' '; 2 << 20]).send();
    // Refused, or disconnected while sending.
    if let Ok(answer) = oversized {
        assert_eq!(answer.status().as_u16(), 413);
    }
    for path in ["/v1/nothing", "/v1/jobs/job-x", "/v1/events?from=x", "/v1/tasks/job-1.0/logs"] {
        let status = api.get(path).send().unwrap().status();
        assert!(status.is_client_error(), "{path}: {status}");
    }
    assert!(cluster.coordinator(leader).exit().is_none());
    assert_eq!(cluster.api(leader).status().unwrap().term, term, "no election was caused");
    still_works(&cluster);
}

#[test]
fn garbage_does_not_harm_the_bus() {
    let mut cluster = Cluster::start(Shape::default()).unwrap();
    let mut random = StdRng::seed_from_u64(8);
    let port: u16 = cluster.nats().rsplit_once(':').unwrap().1.parse().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"CONNECT {\"verbose\":false}\r\n").unwrap();
    let stranger = WorkerIdentity(42);
    let subjects = [
        subjects::up("test", stranger),
        subjects::down("test", stranger, BootId(1)),
        subjects::up("other", stranger),
    ];
    for length in [0, 1, 2, 50, 5_000, 900_000] {
        for subject in &subjects {
            let body = random_bytes(&mut random, length);
            stream.write_all(format!("PUB {subject} {length}\r\n").as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
    }
    stream.write_all(b"PING\r\n").unwrap();
    still_works(&cluster);
    for index in 0..3 {
        assert!(cluster.coordinator(index).exit().is_none());
    }
    for index in 0..2 {
        assert!(cluster.worker(index).exit().is_none());
    }
}
