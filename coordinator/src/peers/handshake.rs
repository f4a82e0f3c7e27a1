//! The handshake on a connection between coordinators: cluster, sender, receiver and version.

use crate::config::Config;
use bincode::{Decode, Encode};
use muster_host::frame::{self, FrameError, LengthBe};
use muster_protocol::codec::{self, CodecError};
use muster_protocol::ids::RaftId;
use muster_replica::MemberConfig;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Begins every connection, so that a client that is not a coordinator is noticed at once.
const MAGIC: [u8; 4] = *b"MSTR";
/// The version of what follows. 2: state hashes are over the second layout of snapshots, so a coordinator
/// that has another layout would seem to have diverged; they must not meet.
const VERSION: u8 = 2;
const BYTES_MAX: usize = 1024;

/// Why a caller was refused.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("it does not use the coordinators' protocol")]
    NotACoordinator,
    #[error("it uses version {found} of the peer protocol, but this coordinator uses {VERSION}")]
    Version { found: u8 },
    #[error("its hello has {bytes} bytes; at most {BYTES_MAX} are allowed")]
    TooLong { bytes: usize },
    #[error("its hello cannot be read: {0}")]
    Malformed(#[from] CodecError),
    #[error("it is of the cluster {0:?}")]
    Cluster(String),
    #[error("{raft_id} under the name {name:?} is not a member; is the list of members the same everywhere?")]
    NotAMember { raft_id: RaftId, name: String },
    #[error("it wanted to reach {0}; is the list of members the same everywhere?")]
    NotMe(RaftId),
    #[error("the connection ended: {0}")]
    Ended(#[from] std::io::Error),
}

impl From<FrameError> for HandshakeError {
    fn from(error: FrameError) -> HandshakeError {
        match error {
            FrameError::TooLong { bytes, .. } => HandshakeError::TooLong { bytes },
            other => HandshakeError::Ended(other.into()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Hello {
    cluster: String,
    from: RaftId,
    name: String,
    to: RaftId,
}

#[derive(Clone, Debug)]
pub struct PeerIdentity {
    pub cluster: String,
    pub me: MemberConfig,
    /// All members, including this one.
    pub members: Vec<MemberConfig>,
}

impl PeerIdentity {
    pub fn new(config: &Config, me: &MemberConfig) -> PeerIdentity {
        PeerIdentity { cluster: config.cluster.clone(), me: me.clone(), members: config.members.clone() }
    }

    /// The bytes that begin a connection to another member.
    pub(super) fn hello_to(&self, to: RaftId) -> Vec<u8> {
        let hello =
            Hello { cluster: self.cluster.clone(), from: self.me.raft_id, name: self.me.name.clone(), to };
        let body = codec::seal(&hello);
        let header = LengthBe::of(&body, u32::MAX as usize).expect("a hello holds a few names");
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        bytes.extend(frame::encode(&header, &body));
        bytes
    }

    /// Reads a caller's hello, and returns which member it is.
    pub(super) async fn read_hello(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<RaftId, HandshakeError> {
        let mut head = [0; MAGIC.len() + 1];
        stream.read_exact(&mut head).await?;
        if head[..MAGIC.len()] != MAGIC {
            return Err(HandshakeError::NotACoordinator);
        }
        let found = head[MAGIC.len()];
        if found != VERSION {
            return Err(HandshakeError::Version { found });
        }
        let Some((LengthBe(_), body)) = frame::read_async(stream, BYTES_MAX).await? else {
            return Err(HandshakeError::Ended(std::io::ErrorKind::UnexpectedEof.into()));
        };
        self.check(codec::open(&body, BYTES_MAX)?)
    }

    fn check(&self, hello: Hello) -> Result<RaftId, HandshakeError> {
        if hello.cluster != self.cluster {
            return Err(HandshakeError::Cluster(hello.cluster));
        }
        if hello.to != self.me.raft_id {
            return Err(HandshakeError::NotMe(hello.to));
        }
        let known =
            self.members.iter().any(|member| member.raft_id == hello.from && member.name == hello.name);
        if !known || hello.from == self.me.raft_id {
            return Err(HandshakeError::NotAMember { raft_id: hello.from, name: hello.name });
        }
        Ok(hello.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster: &str, position: usize) -> PeerIdentity {
        let members = crate::config::members("c1=h:1/h:2,c2=h:3/h:4,c3=h:5/h:6").unwrap();
        PeerIdentity { cluster: cluster.to_string(), me: members[position].clone(), members }
    }

    #[tokio::test]
    async fn members_are_accepted_and_others_refused() {
        let me = identity("test", 0);
        let good = identity("test", 1).hello_to(RaftId(1));
        assert_eq!(me.read_hello(&mut good.as_slice()).await.unwrap(), RaftId(2));
        let table: Vec<(Vec<u8>, &str)> = vec![
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "it does not use the coordinators' protocol"),
            (
                b"MSTR\x01\0\0\0\x01\0".to_vec(),
                "it uses version 1 of the peer protocol, but this coordinator uses 2",
            ),
            (
                b"MSTR\x02\xff\xff\xff\xff".to_vec(),
                "its hello has 4294967295 bytes; at most 1024 are allowed",
            ),
            (b"MSTR\x02\0\0\0\x02\x01\xff".to_vec(), "its hello cannot be read"),
            (good[..good.len() - 1].to_vec(), "the connection ended"),
            (identity("other", 1).hello_to(RaftId(1)), "it is of the cluster \"other\""),
            (identity("test", 1).hello_to(RaftId(3)), "it wanted to reach raft-3"),
            (identity("test", 0).hello_to(RaftId(1)), "raft-1 under the name \"c1\" is not a member"),
        ];
        for (bytes, expected) in table {
            let said = me.read_hello(&mut bytes.as_slice()).await.unwrap_err().to_string();
            assert!(said.starts_with(expected), "{said}");
        }
    }
}
