//! The attempt's end of its socket: blocking, one question at a time, no runtime needed.

use super::frame::{self, FRAME_BYTES_MAX, FrameError};
use muster_protocol::attempt_call::{
    AgentFrame, Answered, Ask, AttemptFrame, CallAnswer, CallRequest, SetOutput, WriteRecord,
};
use muster_protocol::bus::Launch;
use muster_protocol::codec;
use muster_protocol::ids::Digest;
use muster_protocol::limits::{BUS_MESSAGE_BYTES_MAX, PROGRESS_BODY_BYTES_MAX};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::{env, fs, io};

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The variable that names it is not set: this process does not run as an attempt.
    #[error("find the agent: {variable} is not set; does this run as an attempt of a Muster worker?")]
    NoAgent {
        /// The variable.
        variable: &'static str,
    },
    /// The file or socket that the agent left is not usable.
    #[error("reach the agent at {path}: {source}")]
    Reach {
        /// Where.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A frame did not get through.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The agent said no.
    #[error("be heard by the agent: {0}")]
    Refused(String),
    /// The agent said something else than what was asked.
    #[error("understand the agent: it sent {found}")]
    OutOfTurn {
        /// What it sent.
        found: &'static str,
    },
    /// A body is longer than is allowed.
    #[error("pass {bytes} bytes on: a body or an output has at most {PROGRESS_BODY_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// The attempt's end of its socket.
#[derive(Debug)]
pub struct AttemptClient {
    stream: UnixStream,
}

impl AttemptClient {
    /// Connects to the agent that started this process, by `MUSTER_SOCKET`.
    pub fn from_env() -> Result<Self, ClientError> {
        AttemptClient::connect(Path::new(&variable("MUSTER_SOCKET")?))
    }

    /// Connects to the agent whose socket lies at `path`.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| ClientError::Reach { path: path.display().to_string(), source })?;
        Ok(AttemptClient { stream })
    }

    /// Another connection to the same agent, so that one may wait while the other goes on.
    pub fn another(&self) -> Result<Self, ClientError> {
        let reach = |path: &Path, source| ClientError::Reach { path: path.display().to_string(), source };
        let address = self.stream.peer_addr().map_err(|source| reach(Path::new("the other end"), source))?;
        let path = address
            .as_pathname()
            .ok_or_else(|| reach(Path::new("a socket without a name"), io::ErrorKind::NotFound.into()))?;
        AttemptClient::connect(path)
    }

    /// Records progress; with `wait` it returns once the record is applied, durably.
    pub fn record(
        &mut self,
        key: impl Into<String>,
        seq: u64,
        payload_hash: Digest,
        body: impl Into<String>,
        wait: bool,
    ) -> Result<(), ClientError> {
        let body = short(body.into())?;
        self.taken(&AttemptFrame::Record(WriteRecord { key: key.into(), seq, payload_hash, body, wait }))
    }

    /// Says what this attempt's output is, should it end with exit code 0; a later one replaces it.
    pub fn output(&mut self, output: impl Into<String>) -> Result<(), ClientError> {
        let output = short(output.into())?;
        self.taken(&AttemptFrame::Output(SetOutput { output }))
    }

    /// Asks the cluster, and waits for its answer, however long there is no leader. `nonce` must be the same
    /// for the same question in every attempt at the task, and another for another question. A rejection is
    /// an answer: [`CallAnswer::Rejected`].
    pub fn ask(&mut self, nonce: u64, request: CallRequest) -> Result<CallAnswer, ClientError> {
        match self.exchange(&AttemptFrame::Ask(Ask { nonce, request }))? {
            AgentFrame::Answered(Answered { answer }) => Ok(answer),
            other => Err(unexpected(other)),
        }
    }

    fn taken(&mut self, frame: &AttemptFrame) -> Result<(), ClientError> {
        match self.exchange(frame)? {
            AgentFrame::Taken(_) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn exchange(&mut self, frame: &AttemptFrame) -> Result<AgentFrame, ClientError> {
        frame::write(&mut self.stream, &codec::seal(frame))?;
        let sealed = frame::read(&mut self.stream)?;
        Ok(codec::open(&sealed, FRAME_BYTES_MAX).map_err(FrameError::Codec)?)
    }
}

/// What this attempt is to run: the file that `MUSTER_LAUNCH` names.
pub fn launch_from_env() -> Result<Launch, ClientError> {
    let path = variable("MUSTER_LAUNCH")?;
    let bytes = fs::read(&path).map_err(|source| ClientError::Reach { path, source })?;
    Ok(codec::open(&bytes, BUS_MESSAGE_BYTES_MAX).map_err(FrameError::Codec)?)
}

fn variable(variable: &'static str) -> Result<String, ClientError> {
    env::var(variable).map_err(|_| ClientError::NoAgent { variable })
}

fn short(text: String) -> Result<String, ClientError> {
    if text.len() <= PROGRESS_BODY_BYTES_MAX {
        Ok(text)
    } else {
        Err(ClientError::TooLong { bytes: text.len() })
    }
}

fn unexpected(frame: AgentFrame) -> ClientError {
    match frame {
        AgentFrame::Refused(detail) => ClientError::Refused(detail.message),
        AgentFrame::Taken(_) => ClientError::OutOfTurn { found: "Taken" },
        AgentFrame::Answered(_) => ClientError::OutOfTurn { found: "Answered" },
    }
}
