//! The agent's end of an attempt's socket: reads frames, passes them to the agent one by one, and writes its
//! answers.

use crate::agent::Input;
use muster_attempt::frame::{self, FRAME_BYTES_MAX, FrameError};
use muster_protocol::attempt_call::{AgentFrame, AttemptFrame};
use muster_protocol::codec;
use muster_protocol::ids::AttemptId;
use muster_protocol::rejection::Detail;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Connections of one attempt at once at most; more wait until one ends.
const CONNECTIONS_MAX: usize = 64;
/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The frames that wait for the agent's answer, over all attempts.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    inputs: mpsc::Sender<Input>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    replies: HashMap<u64, oneshot::Sender<AgentFrame>>,
}

/// A frame that waits; dropped, nobody waits for its answer any more.
struct Asked<'a> {
    callers: &'a Callers,
    caller: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.callers.lock().replies.remove(&self.caller);
    }
}

impl Callers {
    pub(crate) fn new(inputs: mpsc::Sender<Input>) -> Callers {
        Callers { inputs, waiting: Arc::default() }
    }

    /// Passes the agent's answer on, if somebody still waits for it.
    pub(crate) fn reply(&self, caller: u64, frame: AgentFrame) {
        if let Some(reply) = self.lock().replies.remove(&caller) {
            // It may have stopped waiting just now.
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
                    let callers = self.clone();
                    connections.spawn(async move {
                        if let Err(error) = callers.converse(attempt, stream).await {
                            tracing::warn!(%attempt, %error, "an attempt's connection ended badly");
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

    async fn converse(&self, attempt: AttemptId, mut stream: UnixStream) -> Result<(), FrameError> {
        loop {
            let mut head = [0; 4];
            match stream.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let mut sealed = vec![0; frame::length(head)?];
            stream.read_exact(&mut sealed).await?;
            let (answer, end) = match codec::open(&sealed, FRAME_BYTES_MAX) {
                Ok(frame) => (self.ask(attempt, frame).await, None),
                Err(error) => (
                    AgentFrame::Refused(Detail { message: error.to_string() }),
                    Some(FrameError::Codec(error)),
                ),
            };
            stream.write_all(&frame::around(&codec::seal(&answer))?).await?;
            if let Some(end) = end {
                return Err(end);
            }
        }
    }

    async fn ask(&self, attempt: AttemptId, frame: AttemptFrame) -> AgentFrame {
        let gone = || AgentFrame::Refused(Detail { message: "the worker ends".to_string() });
        let (reply, answer) = oneshot::channel();
        let caller = {
            let mut waiting = self.lock();
            waiting.last += 1;
            let caller = waiting.last;
            waiting.replies.insert(caller, reply);
            caller
        };
        let _asked = Asked { callers: self, caller };
        if self.inputs.send(Input::Frame { attempt, caller, frame }).await.is_err() {
            return gone();
        }
        answer.await.unwrap_or_else(|_| gone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_attempt::{AttemptClient, ClientError};
    use muster_protocol::attempt_call::{Answered, CallAnswer, CallRequest, Seal, Taken};
    use muster_protocol::ids::{Digest, StageIndex};
    use std::io::{Read, Write};

    /// The agent of this test: refuses questions about stage 9, takes everything else.
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
    async fn an_attempt_speaks_with_its_agent() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let (inputs, mut heard) = mpsc::channel(4);
        let callers = Callers::new(inputs);
        let listener = UnixListener::bind(&path).unwrap();
        let serving = callers.clone();
        let server = tokio::spawn(async move { serving.serve(AttemptId::default(), listener).await });
        let agent = tokio::spawn(async move {
            let mut frames = Vec::new();
            while let Some(Input::Frame { caller, frame, .. }) = heard.recv().await {
                callers.reply(caller, answer(&frame));
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
            assert_eq!(client.ask(2, seal(9)).unwrap_err().to_string(), "be heard by the agent: no");
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
