//! Ids. Each is a newtype whose `Display` parses back; in JSON each is that text.

use alloc::string::String;
use bincode::{Decode, Encode};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text is not an id of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseIdError {
    /// The expected kind of id, with its form.
    pub expected: &'static str,
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a valid {}", self.expected)
    }
}

impl core::error::Error for ParseIdError {}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident($int:ty), $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let error = ParseIdError { expected: concat!(stringify!($name), " (", $prefix, "N)") };
                text.strip_prefix($prefix).and_then(|n| n.parse().ok()).map($name).ok_or(error)
            }
        }
        text_serde!($name);
    };
}

numbered!(/// A job: `job-42`. Counted from 1 in the replicated state.
    JobId(u64), "job-");
numbered!(/// A worker: `worker-3`. Counted from 1 in the replicated state; survives restarts.
    WorkerId(u32), "worker-");
numbered!(/// An index of the replicated log. The first entry has index 1.
    LogIndex(u64), "");
numbered!(/// A Raft term.
    Term(u64), "");
numbered!(/// A member's id in Raft. A wiped coordinator keeps its name and comes back under a new id.
    RaftId(u64), "raft-");

/// A stage of a job: its position in the job's list of stages.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
/// A stage: its position in the job's list of stages.
#[serde(transparent)]
pub struct StageIndex(pub u16);

/// A task: `job-42.7`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct TaskId {
    /// The job it belongs to.
    pub job: JobId,
    /// Its number in the job: dense, from 0.
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.index)
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = ParseIdError { expected: "TaskId (job-N.T)" };
        let (job, index) = text.rsplit_once('.').ok_or(error)?;
        Ok(TaskId { job: job.parse().map_err(|_| error)?, index: index.parse().map_err(|_| error)? })
    }
}
text_serde!(TaskId);

/// One attempt at a task: `job-42.7#2`. The epoch fences: only the newest attempt's reports count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct AttemptId {
    /// The task.
    pub task: TaskId,
    /// Counted from 1 in each task.
    pub epoch: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task, self.epoch)
    }
}

impl FromStr for AttemptId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = ParseIdError { expected: "AttemptId (job-N.T#E)" };
        let (task, epoch) = text.rsplit_once('#').ok_or(error)?;
        Ok(AttemptId { task: task.parse().map_err(|_| error)?, epoch: epoch.parse().map_err(|_| error)? })
    }
}
text_serde!(AttemptId);

macro_rules! uuid_like {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        pub struct $name(pub u128);

        impl $name {
            /// All bits zero: no id.
            pub const NIL: Self = $name(0);
            /// Whether this is [`Self::NIL`].
            pub fn is_nil(self) -> bool {
                self.0 == 0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let n = self.0;
                let (a, b, c) = (n >> 96, (n >> 80) & 0xffff, (n >> 64) & 0xffff);
                let (d, e) = ((n >> 48) & 0xffff, n & 0xffff_ffff_ffff);
                write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let error = ParseIdError { expected: concat!(stringify!($name), " (a UUID)") };
                let form = [8, 4, 4, 4, 12];
                let mut parts = text.split('-');
                let mut value: u128 = 0;
                for digits in form {
                    let part = parts.next().filter(|part| part.len() == digits).ok_or(error)?;
                    if !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                        return Err(error);
                    }
                    value = (value << (digits * 4)) | u128::from_str_radix(part, 16).map_err(|_| error)?;
                }
                if parts.next().is_some() { return Err(error); }
                Ok($name(value))
            }
        }
        text_serde!($name);
    };
}

uuid_like!(/// A client's id for a request (UUIDv7). A repeat gets the first answer. Nil: not remembered.
    RequestId);
uuid_like!(/// A worker's stable identity, kept in its data directory.
    WorkerIdentity);
uuid_like!(/// A worker's incarnation: drawn at each start of its agent, to fence earlier incarnations.
    BootId);

/// A 256-bit BLAKE3 hash, written `blake3:<64 hex digits>`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blake3:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = ParseIdError { expected: "Digest (blake3:<64 hex digits>)" };
        let hex = text.strip_prefix("blake3:").filter(|h| h.len() == 64 && h.is_ascii()).ok_or(error)?;
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|_| error)?;
        }
        Ok(Digest(bytes))
    }
}
text_serde!(Digest);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn ids_parse_back() {
        for text in ["job-42.7#2", "job-1.0#1"] {
            assert_eq!(text.parse::<AttemptId>().unwrap().to_string(), text);
        }
        for text in ["", "job-", "job-1", "job-1.x", "job-1.2#", "1.2#3", "job-99999999999999999999999.1#1"] {
            assert!(text.parse::<AttemptId>().is_err(), "{text}");
        }
        let request = RequestId(0x0190_1234_5678_7abc_8def_0123_4567_89ab);
        assert_eq!(request.to_string().parse::<RequestId>(), Ok(request));
        let digest = Digest::of(b"muster");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert!("blake3:é".parse::<Digest>().is_err());
    }
}
