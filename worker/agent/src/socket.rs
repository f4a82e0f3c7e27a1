//! The agent's end of attempts' sockets: reads frames, passes them to the agent one by one, and writes its
//! replies.

use crate::machine::AgentInput;
use muster_attempt::FRAME_BYTES_MAX;
use muster_host::frame::{self, LengthLe};
use muster_protocol::attempt_call::{AgentFrame, AttemptFrame};
use muster_protocol::codec;
use muster_protocol::ids::AttemptId;
use muster_protocol::rejection::Detail;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// One attempt has at most this many connections; more wait until one ends.
const CONNECTIONS_MAX: usize = 64;
/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the sockets of all attempts.
#[derive(Clone, Debug)]
pub(crate) struct SocketServer {
    inputs: mpsc::Sender<AgentInput>,
    pending: Arc<Mutex<PendingReplies>>,
}

#[derive(Debug, Default)]
struct PendingReplies {
    last_caller: u64,
    replies: HashMap<u64, oneshot::Sender<AgentFrame>>,
}

/// A frame whose reply is awaited; dropped, the reply is discarded.
struct ReplyGuard<'a> {
    server: &'a SocketServer,
    caller: u64,
}

impl Drop for ReplyGuard<'_> {
    fn drop(&mut self) {
        self.server.lock().replies.remove(&self.caller);
    }
}

impl SocketServer {
    pub(crate) fn new(inputs: mpsc::Sender<AgentInput>) -> SocketServer {
        SocketServer { inputs, pending: Arc::default() }
    }

    /// Passes on the agent's reply, if the connection still waits for it.
    pub(crate) fn reply(&self, caller: u64, frame: AgentFrame) {
        if let Some(reply) = self.lock().replies.remove(&caller) {
            // The connection may have ended since.
            let _ = reply.send(frame);
        }
    }

    /// Serves an attempt's socket, until this is dropped.
    pub(crate) async fn serve(&self, attempt: AttemptId, listener: UnixListener) {
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= CONNECTIONS_MAX {
                connections.join_next().await;
            }
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = self.clone();
                    connections.spawn(async move {
                        if let Err(error) = server.handle_connection(attempt, stream).await {
                            tracing::warn!(%attempt, %error, "an attempt's connection failed");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%attempt, %error, "cannot accept a connection of an attempt");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn handle_connection(&self, attempt: AttemptId, mut stream: UnixStream) -> io::Result<()> {
        while let Some((LengthLe(_), sealed)) = frame::read_async(&mut stream, FRAME_BYTES_MAX).await? {
            let (answer, end) = match codec::open(&sealed, FRAME_BYTES_MAX) {
                Ok(frame) => (self.ask(attempt, frame).await, None),
                Err(error) => (
                    AgentFrame::Refused(Detail { message: error.to_string() }),
                    Some(io::Error::new(io::ErrorKind::InvalidData, error)),
                ),
            };
            let answer = codec::seal(&answer);
            stream.write_all(&frame::encode(&LengthLe::of(&answer, FRAME_BYTES_MAX)?, &answer)).await?;
            if let Some(end) = end {
                return Err(end);
            }
        }
        Ok(())
    }

    async fn ask(&self, attempt: AttemptId, frame: AttemptFrame) -> AgentFrame {
        let gone = || AgentFrame::Refused(Detail { message: "the worker ends".to_string() });
        let (reply, answer) = oneshot::channel();
        let caller = {
            let mut pending = self.lock();
            pending.last_caller += 1;
            let caller = pending.last_caller;
            pending.replies.insert(caller, reply);
            caller
        };
        let _guard = ReplyGuard { server: self, caller };
        if self.inputs.send(AgentInput::Frame { attempt, caller, frame }).await.is_err() {
            return gone();
        }
        answer.await.unwrap_or_else(|_| gone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, PendingReplies> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_attempt::{AttemptClient, ClientError};
    use muster_protocol::attempt_call::{Answered, CallAnswer, CallRequest, Seal, Taken};
    use muster_protocol::ids::{Digest, StageIndex};
    use std::io::{Read, Write};

    /// The reply of this test's agent: it refuses questions about stage 9 and takes everything else.
    fn answer(frame: &AttemptFrame) -> AgentFrame {
        match frame {
            AttemptFrame::Ask(ask) if ask.request == CallRequest::Seal(Seal { stage: StageIndex(9) }) => {
                AgentFrame::Refused(Detail { message: "no".to_string() })
            }
            AttemptFrame::Ask(_) => AgentFrame::Answered(Answered { answer: CallAnswer::Sealed(Taken {}) }),
            AttemptFrame::Record(_) | AttemptFrame::Output(_) => AgentFrame::Taken(Taken {}),
        }
    }

    #[tokio::test]
    async fn frames_are_answered_and_garbage_ends_only_its_connection() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let (inputs, mut received) = mpsc::channel(4);
        let sockets = SocketServer::new(inputs);
        let listener = UnixListener::bind(&path).unwrap();
        let serving = sockets.clone();
        let server = tokio::spawn(async move { serving.serve(AttemptId::default(), listener).await });
        let agent = tokio::spawn(async move {
            let mut frames = Vec::new();
            while let Some(AgentInput::Frame { caller, frame, .. }) = received.recv().await {
                sockets.reply(caller, answer(&frame));
                frames.push(frame.name());
                if frames.len() == 4 {
                    break;
                }
            }
            frames
        });
        let attempt = tokio::task::spawn_blocking(move || {
            let mut client = AttemptClient::connect(&path).unwrap();
            client.record("train", 1, Digest::of(b"x"), "{}", true).unwrap();
            client.output("42").unwrap();
            assert!(matches!(client.output("x".repeat(1_025)), Err(ClientError::TooLong { bytes: 1_025 })));
            let seal = |stage| CallRequest::Seal(Seal { stage: StageIndex(stage) });
            assert_eq!(client.ask(1, seal(0)).unwrap(), CallAnswer::Sealed(Taken {}));
            assert_eq!(client.ask(2, seal(9)).unwrap_err().to_string(), "the agent refused: no");
            // Garbage is refused, and ends the connection only.
            let mut raw = std::os::unix::net::UnixStream::connect(&path).unwrap();
            raw.write_all(&[3, 0, 0, 0, 1, 99, 99]).unwrap();
            let mut answer = Vec::new();
            raw.read_to_end(&mut answer).unwrap();
            assert!(String::from_utf8_lossy(&answer).contains("malformed bytes"));
            let mut raw = std::os::unix::net::UnixStream::connect(&path).unwrap();
            raw.write_all(&u32::MAX.to_le_bytes()).unwrap();
            assert_eq!(raw.read(&mut [0; 1]).unwrap_or(0), 0, "an announced length takes no memory");
        });
        attempt.await.unwrap();
        assert_eq!(agent.await.unwrap(), ["Record", "Output", "Ask", "Ask"]);
        server.abort();
    }
}
