//! The attempt's end of its socket: blocking, with one request at a time on a connection.
//!
//! A request or a reply is a frame: a little-endian `u32` length, then a sealed value.

use muster_host::frame::{self, FrameError, LengthLe};
use muster_protocol::attempt_call::{
    AgentFrame, Answered, Ask, AttemptFrame, CallAnswer, CallRequest, SetOutput, WriteRecord,
};
use muster_protocol::bus::Launch;
use muster_protocol::codec::{self, CodecError};
use muster_protocol::ids::Digest;
use muster_protocol::limits::{BUS_MESSAGE_BYTES_MAX, PROGRESS_BODY_BYTES_MAX};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::{env, fs, io};

/// Most bytes of a frame's value: a question of an attempt must fit into one message on the bus.
pub const FRAME_BYTES_MAX: usize = BUS_MESSAGE_BYTES_MAX;

/// Why a request to the agent failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An environment variable is not set: this process does not run as an attempt.
    #[error("{variable} is not set: this process does not run as an attempt of a Muster worker")]
    NoAgent {
        /// The variable that is not set.
        variable: &'static str,
    },
    /// A file or socket of the agent cannot be used.
    #[error("cannot reach the agent at {path}: {source}")]
    Reach {
        /// The file or socket.
        path: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A frame could not be sent or read.
    #[error("the attempt's socket failed: {0}")]
    Frame(#[from] FrameError),
    /// The agent, or the leader, refused the request.
    #[error("the agent refused: {0}")]
    Refused(String),
    /// The agent sent a frame of another kind than expected.
    #[error("the agent sent an unexpected {found}")]
    UnexpectedFrame {
        /// The kind of the frame.
        found: &'static str,
    },
    /// A body or an output is over its limit.
    #[error("a body or an output has at most {PROGRESS_BODY_BYTES_MAX} bytes, not {bytes}")]
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
    ///
    /// # Errors
    /// If this process does not run as an attempt, or the socket cannot be reached.
    pub fn from_env() -> Result<Self, ClientError> {
        AttemptClient::connect(Path::new(&variable("MUSTER_SOCKET")?))
    }

    /// Connects to the agent whose socket is at `path`.
    ///
    /// # Errors
    /// If the socket cannot be reached.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| ClientError::Reach { path: path.display().to_string(), source })?;
        Ok(AttemptClient { stream })
    }

    /// Opens another connection to the same agent, so that one can wait while the other is used.
    ///
    /// # Errors
    /// If the socket cannot be reached.
    pub fn another_connection(&self) -> Result<Self, ClientError> {
        let reach = |path: &Path, source| ClientError::Reach { path: path.display().to_string(), source };
        let address = self
            .stream
            .peer_addr()
            .map_err(|source| reach(Path::new("the other end of the connection"), source))?;
        let path = address
            .as_pathname()
            .ok_or_else(|| reach(Path::new("a socket without a name"), io::ErrorKind::NotFound.into()))?;
        AttemptClient::connect(path)
    }

    /// Records progress. With `wait`, it returns once the record is durably in the log.
    ///
    /// # Errors
    /// If the body is too long, or the agent refuses the record.
    pub fn record(
        &mut self,
        key: impl Into<String>,
        seq: u64,
        payload_hash: Digest,
        body: impl Into<String>,
        wait: bool,
    ) -> Result<(), ClientError> {
        let body = within_limit(body.into())?;
        self.send(&AttemptFrame::Record(WriteRecord { key: key.into(), seq, payload_hash, body, wait }))
    }

    /// Sets the output that the attempt has if it ends with exit code 0; a later call replaces it.
    ///
    /// # Errors
    /// If the output is too long, or the agent refuses it.
    pub fn output(&mut self, output: impl Into<String>) -> Result<(), ClientError> {
        let output = within_limit(output.into())?;
        self.send(&AttemptFrame::Output(SetOutput { output }))
    }

    /// Asks the cluster, and waits for the answer, for as long as there is no leader. All attempts at a task
    /// must use the same `nonce` for the same question, and a different one for each other question. A
    /// rejection is an answer too: [`CallAnswer::Rejected`].
    ///
    /// # Errors
    /// If the agent refuses the question, or the connection fails.
    pub fn ask(&mut self, nonce: u64, request: CallRequest) -> Result<CallAnswer, ClientError> {
        match self.exchange(&AttemptFrame::Ask(Ask { nonce, request }))? {
            AgentFrame::Answered(Answered { answer }) => Ok(answer),
            other => Err(unexpected(other)),
        }
    }

    fn send(&mut self, frame: &AttemptFrame) -> Result<(), ClientError> {
        match self.exchange(frame)? {
            AgentFrame::Taken(_) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn exchange(&mut self, frame: &AttemptFrame) -> Result<AgentFrame, ClientError> {
        let sealed = codec::seal(frame);
        let header = LengthLe::of(&sealed, FRAME_BYTES_MAX)?;
        frame::write(&mut self.stream, &header, &sealed).map_err(FrameError::Io)?;
        let (LengthLe(_), reply) = frame::read(&mut self.stream, FRAME_BYTES_MAX)?;
        Ok(codec::open(&reply, FRAME_BYTES_MAX).map_err(malformed)?)
    }
}

/// Reads what this attempt must run from the file that `MUSTER_LAUNCH` names.
///
/// # Errors
/// If this process does not run as an attempt, or the file cannot be read.
pub fn launch_from_env() -> Result<Launch, ClientError> {
    let path = variable("MUSTER_LAUNCH")?;
    let bytes = fs::read(&path).map_err(|source| ClientError::Reach { path, source })?;
    Ok(codec::open(&bytes, BUS_MESSAGE_BYTES_MAX).map_err(malformed)?)
}

fn malformed(error: CodecError) -> FrameError {
    FrameError::Malformed(format!("cannot read a frame: {error}"))
}

fn variable(variable: &'static str) -> Result<String, ClientError> {
    env::var(variable).map_err(|_| ClientError::NoAgent { variable })
}

fn within_limit(text: String) -> Result<String, ClientError> {
    if text.len() <= PROGRESS_BODY_BYTES_MAX {
        Ok(text)
    } else {
        Err(ClientError::TooLong { bytes: text.len() })
    }
}

fn unexpected(frame: AgentFrame) -> ClientError {
    match frame {
        AgentFrame::Refused(detail) => ClientError::Refused(detail.message),
        AgentFrame::Taken(_) => ClientError::UnexpectedFrame { found: "Taken" },
        AgentFrame::Answered(_) => ClientError::UnexpectedFrame { found: "Answered" },
    }
}
