//! Frames between ranks: a head of 16 bytes, and a body of at most 1 MiB.
//!
//! The head: the body's length (`u32`), a kind, whether more frames of the same message follow, two zero
//! bytes, a tag (which operation, or which step of the greeting), and the CRC-32 of the body; little-endian.
//! TCP's own checksum misses one in 65,536 damaged segments, and a wrong sum would be the same on all ranks,
//! so that nobody noticed; what ours costs is measured by `cargo xtask bench collective`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};

/// Bytes of a head.
pub const HEAD_BYTES: usize = 16;
/// The longest body of a frame between ranks.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest body of somebody who has not been let in.
pub const HELLO_BYTES_MAX: usize = 4 << 10;

/// What ranks say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first word of whoever calls.
    Hello,
    /// It is let in.
    Welcome,
    /// It is turned away, for this reason.
    Refused,
    /// Where all ranks listen.
    Mesh,
    /// A rank stands in the mesh.
    Ready,
    /// A sign of life.
    Beat,
    /// A rank gives up, for this reason.
    GaveUp,
    /// What a rank will bring to a sum.
    Plan,
    /// A chunk of a partial sum, for its owner.
    Part,
    /// A chunk of the sum, from its owner.
    Sum,
    /// Anything else that ranks share.
    Bytes,
    /// A replica's contribution to a round.
    Contribution,
    /// What came of a round.
    Outcome,
}

/// Every kind, by its number less one.
const KINDS: [Kind; 13] = [
    Kind::Hello,
    Kind::Welcome,
    Kind::Refused,
    Kind::Mesh,
    Kind::Ready,
    Kind::Beat,
    Kind::GaveUp,
    Kind::Plan,
    Kind::Part,
    Kind::Sum,
    Kind::Bytes,
    Kind::Contribution,
    Kind::Outcome,
];

impl Kind {
    /// What it is, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hello => "a hello",
            Kind::Welcome => "a welcome",
            Kind::Refused => "a refusal",
            Kind::Mesh => "the addresses of the ranks",
            Kind::Ready => "a word that it is ready",
            Kind::Beat => "a sign of life",
            Kind::GaveUp => "a farewell",
            Kind::Plan => "the plan of a sum",
            Kind::Part => "numbers to sum",
            Kind::Sum => "sums",
            Kind::Bytes => "bytes",
            Kind::Contribution => "a contribution to a round",
            Kind::Outcome => "a round's outcome",
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the body.
    pub length: usize,
    /// What it is.
    pub kind: Kind,
    /// Whether more frames of the same message follow.
    pub more: bool,
    /// Which operation it belongs to.
    pub tag: u32,
    /// CRC-32 of the body.
    pub checksum: u32,
}

impl Head {
    /// The head of a frame with this body.
    pub fn of(kind: Kind, tag: u32, more: bool, body: &[u8]) -> Head {
        Head { length: body.len(), kind, more, tag, checksum: crc32fast::hash(body) }
    }

    /// As bytes.
    pub fn encode(self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[..4].copy_from_slice(&(self.length as u32).to_le_bytes());
        out[4] = KINDS.iter().position(|kind| *kind == self.kind).map_or(0, |place| place as u8 + 1);
        out[5] = u8::from(self.more);
        out[8..12].copy_from_slice(&self.tag.to_le_bytes());
        out[12..].copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    /// Reads a head; the body may have at most `limit` bytes.
    pub fn decode(bytes: [u8; HEAD_BYTES], limit: usize) -> Result<Head, String> {
        let [l0, l1, l2, l3, kind, more, z0, z1, t0, t1, t2, t3, c0, c1, c2, c3] = bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > limit {
            return Err(format!("a frame of {length} bytes, where at most {limit} may come"));
        }
        let kind = (kind as usize).checked_sub(1).and_then(|place| KINDS.get(place).copied()).ok_or(kind);
        let kind = kind.map_err(|kind| format!("a frame of {length} bytes and the unknown kind {kind}"))?;
        if more > 1 || (z0, z1) != (0, 0) {
            return Err(format!("{} with flags that nobody sets", kind.name()));
        }
        let (tag, checksum) = (u32::from_le_bytes([t0, t1, t2, t3]), u32::from_le_bytes([c0, c1, c2, c3]));
        Ok(Head { length, kind, more: more == 1, tag, checksum })
    }

    /// Compares the body with the checksum.
    pub fn verify(&self, body: &[u8]) -> Result<(), String> {
        match crc32fast::hash(body) {
            sum if sum == self.checksum => Ok(()),
            sum => Err(format!(
                "{} with the checksum {:08x} instead of {sum:08x}: damaged on the way",
                self.kind.name(),
                self.checksum
            )),
        }
    }
}

/// Writes one whole frame of the greeting.
pub fn write(to: &mut impl Write, kind: Kind, body: &[u8]) -> io::Result<()> {
    let mut bytes = Head::of(kind, 0, false, body).encode().to_vec();
    bytes.extend(body);
    to.write_all(&bytes)?;
    to.flush()
}

/// Writes one whole frame of the greeting that says `word`.
pub fn write_json(to: &mut impl Write, kind: Kind, word: &impl Serialize) -> io::Result<()> {
    write(to, kind, &serde_json::to_vec(word)?)
}

/// Reads one whole frame of the greeting, of at most `limit` bytes. Memory follows the bytes that come, not
/// those that are announced.
pub fn read(from: &mut impl Read, limit: usize) -> io::Result<(Kind, Vec<u8>)> {
    let mut head = [0; HEAD_BYTES];
    from.read_exact(&mut head)?;
    let head = Head::decode(head, limit).map_err(invalid)?;
    let mut body = Vec::new();
    if from.take(head.length as u64).read_to_end(&mut body)? < head.length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    head.verify(&body).map_err(invalid)?;
    Ok((head.kind, body))
}

/// What a frame of the greeting says.
pub fn parse<T: DeserializeOwned>(kind: Kind, body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| format!("{} that is none: {e}", kind.name()))
}

/// A stranger, or a rank that makes no sense.
pub fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        for kind in KINDS {
            for body in [&b""[..], b"x", &[0, 1, 255]] {
                let mut bytes = Vec::new();
                write(&mut bytes, kind, body).unwrap();
                assert_eq!(read(&mut &bytes[..], HELLO_BYTES_MAX).unwrap(), (kind, body.to_vec()));
                for cut in 0..bytes.len() {
                    assert!(
                        read(&mut &bytes[..cut], HELLO_BYTES_MAX).is_err(),
                        "{} cut at {cut}",
                        kind.name()
                    );
                }
                for flip in 0..body.len() {
                    let mut damaged = bytes.clone();
                    damaged[HEAD_BYTES + flip] ^= 4;
                    assert!(
                        read(&mut &damaged[..], HELLO_BYTES_MAX)
                            .is_err_and(|e| e.to_string().contains("damaged"))
                    );
                }
            }
        }
        let head = Head { length: 7, kind: Kind::Part, more: true, tag: 9, checksum: 11 };
        assert_eq!(Head::decode(head.encode(), 7), Ok(head));
    }

    #[test]
    fn garbage_is_refused() {
        let with = |at: usize, byte: u8| {
            let mut head = Head::of(Kind::Hello, 0, false, b"").encode();
            head[at] = byte;
            head
        };
        let table = [
            (*b"GET / HTTP/1.1\r\n", "at most"),
            ([255; HEAD_BYTES], "at most"),
            ([0; HEAD_BYTES], "unknown kind 0"),
            (with(4, 14), "unknown kind 14"),
            (with(5, 2), "flags that nobody sets"),
            (with(7, 1), "flags that nobody sets"),
        ];
        for (bytes, expected) in table {
            let message = Head::decode(bytes, HELLO_BYTES_MAX).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
        assert!(parse::<u32>(Kind::Hello, b"{}").is_err_and(|e| e.contains("a hello that is none")));
    }
}
