//! Invalid, truncated and oversized bytes on the ports: the connection ends, and nothing else is affected.

use crate::harness::Cluster;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends bytes, and waits until the other side has closed the connection.
async fn throw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // An error means that the other side closed the connection before all bytes were sent.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_bytes_affect_no_other_connection() {
    let cluster = Cluster::start(3);
    cluster.leader().await;
    let hello = |name: &str, from: u64| {
        let mut body = vec![1, 4];
        body.extend(b"test");
        body.push(u8::try_from(from).unwrap());
        body.push(u8::try_from(name.len()).unwrap());
        body.extend(name.bytes());
        body.push(1);
        let mut bytes = b"MSTR\x02".to_vec();
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    };
    let after_hello = |bytes: &[u8]| [hello("c2", 2).as_slice(), bytes].concat();
    let thrown = [
        b"".to_vec(),
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        b"MSTR\x07".to_vec(),
        b"MSTR\x02\xff\xff\xff\xff".to_vec(),
        hello("c7", 7),
        hello("c2", 2)[..12].to_vec(),
        // A member that sends invalid bytes: its connection ends, and it may connect again.
        after_hello(b"\0\0\0\0"),
        after_hello(b"\xff\xff\xff\xffgarbage"),
        after_hello(b"\0\0\0\x07garbage"),
        after_hello(b"\0\0\0\x64and too little"),
    ];
    let http: SocketAddr = cluster.members[0].http.parse().unwrap();
    for bytes in &thrown {
        throw(cluster.peer(0), bytes).await;
        throw(http, bytes).await;
    }
    throw(http, b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{").await;
    throw(http, &[b"GET /".as_slice(), &vec![b'a'; 1 << 20], b" HTTP/1.1\r\n\r\n"].concat()).await;
    for n in 0..3 {
        cluster.submit(n, "after the garbage").await;
    }
}
