//! Tails of output, live and afterwards.

use super::*;
use crate::attempts::tails::LogTails;
use muster_protocol::bus::{LogChunk, Tail};
use muster_protocol::ids::RequestId;

fn tail(offset: u64, credit_bytes: u64, follow: bool) -> Tail {
    Tail { id: RequestId(1), attempt: attempt(), stream: Stream::Stdout, offset, follow, credit_bytes }
}

async fn next(chunks: &mut mpsc::Receiver<LogChunk>) -> LogChunk {
    timeout(STALLED, chunks.recv()).await.expect("there is progress").unwrap()
}

#[tokio::test]
async fn a_tail_sends_as_much_as_it_has_credit_for() {
    let mut fixture = Fixture::new();
    fixture.run("head -c 200000 /dev/zero").await;
    let (sender, mut chunks) = mpsc::channel(16);
    let mut tails = LogTails::new(fixture.attempts.context(), sender);
    tails.ask(tail(10, 100_000, false), false);
    let sizes = [next(&mut chunks).await, next(&mut chunks).await]
        .map(|chunk| (chunk.offset, chunk.bytes.len(), chunk.end));
    assert_eq!(sizes, [(10, 65_536, false), (65_546, 34_464, false)]);
    tails.ask(tail(100_010, 99_990, false), false);
    let mut offset = 100_010;
    loop {
        let chunk = next(&mut chunks).await;
        assert_eq!((chunk.offset, chunk.error.as_str()), (offset, ""));
        offset += chunk.bytes.len() as u64;
        if chunk.end {
            break;
        }
        tails.ask(tail(offset, 99_990, false), false);
    }
    assert_eq!(offset, 200_000);
    let nobody = AttemptId { epoch: 9, ..attempt() };
    tails.ask(Tail { id: RequestId(2), attempt: nobody, ..tail(0, 10, true) }, false);
    let chunk = next(&mut chunks).await;
    assert_eq!((chunk.end, chunk.error.as_str()), (true, "no output of job-42.7#9 is kept at this worker"));
}

#[tokio::test]
async fn a_tail_follows_from_before_the_start_to_the_end() {
    let mut fixture = Fixture::new();
    let (sender, mut chunks) = mpsc::channel(16);
    let mut tails = LogTails::new(fixture.attempts.context(), sender);
    tails.ask(tail(0, 1_000, true), true);
    fixture.attempts.start(shell("echo one; while [ ! -e go ]; do sleep 0.02; done; echo two"));
    assert_eq!(next(&mut chunks).await.bytes, b"one\n");
    fs::write(fixture.directory.join("job-42.7-2/scratch/go"), "").unwrap();
    let two = next(&mut chunks).await;
    assert_eq!((two.offset, two.bytes.as_slice()), (4, b"two\n".as_slice()));
    let end = next(&mut chunks).await;
    assert_eq!((end.offset, end.end, end.error.as_str()), (8, true, ""));
}
