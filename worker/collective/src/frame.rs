//! Frames between ranks: a header of 16 bytes, and a body of at most 1 MiB.
//!
//! The header, little-endian: the body's length (`u32`), a kind (`u8`), whether more frames of the same
//! message follow (`u8`), two zero bytes, a tag (`u32`: the number of the operation or round, 0 in the
//! handshake), and the CRC-32 of the body. TCP's own checksum misses one in 65,536 damaged segments, and a
//! wrong sum would be the same on all ranks, so that no comparison would notice it. `cargo xtask bench
//! collective` measures what the CRC costs.

use muster_host::frame::{self, FrameError, Header, check_length};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};

/// The size of a header.
pub const HEADER_BYTES: usize = 16;
/// The longest body of a frame between ranks.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest body of a frame from a caller that is not accepted yet.
pub const HELLO_BYTES_MAX: usize = 4 << 10;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first frame of a caller: JSON.
    Hello = 1,
    /// The caller is accepted.
    Welcome,
    /// The caller is refused; the body is the reason.
    Refused,
    /// Where all ranks listen: JSON.
    Mesh,
    /// A rank is connected to all others.
    Ready,
    /// A heartbeat, without a body.
    Heartbeat,
    /// A rank gives up; the body is the reason.
    GaveUp,
    /// What a rank will send in an all-reduce.
    Plan,
    /// A chunk of a partial sum, for the owner of its slice.
    Part,
    /// A chunk of the sum, from the owner of its slice.
    Sum,
    /// Bytes of an all-gather or a broadcast.
    Bytes,
    /// A replica's contribution to a round of DiLoCo.
    Contribution,
    /// The outcome of a round of DiLoCo.
    Outcome,
}

/// Every kind, in the order of its number on the wire.
const KINDS: [Kind; 13] = [
    Kind::Hello,
    Kind::Welcome,
    Kind::Refused,
    Kind::Mesh,
    Kind::Ready,
    Kind::Heartbeat,
    Kind::GaveUp,
    Kind::Plan,
    Kind::Part,
    Kind::Sum,
    Kind::Bytes,
    Kind::Contribution,
    Kind::Outcome,
];

impl Kind {
    /// A noun phrase for error messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hello => "a hello",
            Kind::Welcome => "a welcome",
            Kind::Refused => "a refusal",
            Kind::Mesh => "the addresses of the ranks",
            Kind::Ready => "a ready message",
            Kind::Heartbeat => "a heartbeat",
            Kind::GaveUp => "its reason to give up",
            Kind::Plan => "the plan of a sum",
            Kind::Part => "numbers to sum",
            Kind::Sum => "sums",
            Kind::Bytes => "bytes",
            Kind::Contribution => "a contribution to a round",
            Kind::Outcome => "a round's outcome",
        }
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the body.
    pub length: usize,
    /// What the body is.
    pub kind: Kind,
    /// Whether more frames of the same message follow.
    pub more: bool,
    /// The operation or round.
    pub tag: u32,
    /// CRC-32 of the body.
    pub checksum: u32,
}

impl FrameHeader {
    /// The header of a frame with this body.
    pub fn new(kind: Kind, tag: u32, more: bool, body: &[u8]) -> FrameHeader {
        FrameHeader { length: body.len(), kind, more, tag, checksum: crc32fast::hash(body) }
    }
}

impl Header<HEADER_BYTES> for FrameHeader {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&(self.length as u32).to_le_bytes());
        out[4] = self.kind as u8;
        out[5] = u8::from(self.more);
        out[8..12].copy_from_slice(&self.tag.to_le_bytes());
        out[12..].copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    fn decode(bytes: [u8; HEADER_BYTES], limit: usize) -> Result<FrameHeader, FrameError> {
        let [l0, l1, l2, l3, kind, more, z0, z1, t0, t1, t2, t3, c0, c1, c2, c3] = bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        check_length(length, limit)?;
        let Some(kind) = KINDS.into_iter().find(|known| *known as u8 == kind) else {
            return Err(FrameError::Malformed(format!(
                "a frame of {length} bytes and the unknown kind {kind}"
            )));
        };
        if more > 1 || (z0, z1) != (0, 0) {
            return Err(FrameError::Malformed(format!("{} with unknown flags", kind.name())));
        }
        let (tag, checksum) = (u32::from_le_bytes([t0, t1, t2, t3]), u32::from_le_bytes([c0, c1, c2, c3]));
        Ok(FrameHeader { length, kind, more: more == 1, tag, checksum })
    }

    fn body_bytes(&self) -> usize {
        self.length
    }

    fn checksum(&self) -> Option<u32> {
        Some(self.checksum)
    }
}

/// Writes a whole frame of the handshake.
pub fn write(to: &mut impl Write, kind: Kind, body: &[u8]) -> io::Result<()> {
    frame::write(to, &FrameHeader::new(kind, 0, false, body), body)
}

/// Writes a whole frame of the handshake whose body is JSON.
pub fn write_json(to: &mut impl Write, kind: Kind, body: &impl Serialize) -> io::Result<()> {
    write(to, kind, &serde_json::to_vec(body)?)
}

/// Reads a whole frame of the handshake whose body has at most `limit` bytes.
pub fn read(from: &mut impl Read, limit: usize) -> io::Result<(Kind, Vec<u8>)> {
    let (header, body) = frame::read::<FrameHeader, HEADER_BYTES>(from, limit)?;
    Ok((header.kind, body))
}

/// Parses the JSON body of a frame of the handshake.
pub fn parse<T: DeserializeOwned>(kind: Kind, body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| format!("{} that can't be read: {e}", kind.name()))
}

/// The peer sent what the protocol does not allow.
pub fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        for (number, kind) in (1..).zip(KINDS) {
            assert_eq!(kind as u8, number);
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
                    damaged[HEADER_BYTES + flip] ^= 4;
                    assert!(
                        read(&mut &damaged[..], HELLO_BYTES_MAX)
                            .is_err_and(|e| e.to_string().contains("damaged"))
                    );
                }
            }
        }
        let header = FrameHeader { length: 7, kind: Kind::Part, more: true, tag: 9, checksum: 11 };
        assert_eq!(FrameHeader::decode(header.encode(), 7).unwrap(), header);
    }

    #[test]
    fn garbage_is_refused() {
        let with = |at: usize, byte: u8| {
            let mut header = FrameHeader::new(Kind::Hello, 0, false, b"").encode();
            header[at] = byte;
            header
        };
        let table = [
            (*b"GET / HTTP/1.1\r\n", "at most"),
            ([255; HEADER_BYTES], "at most"),
            ([0; HEADER_BYTES], "unknown kind 0"),
            (with(4, 14), "unknown kind 14"),
            (with(5, 2), "unknown flags"),
            (with(7, 1), "unknown flags"),
        ];
        for (bytes, expected) in table {
            let message = FrameHeader::decode(bytes, HELLO_BYTES_MAX).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert!(parse::<u32>(Kind::Hello, b"{}").is_err_and(|e| e.contains("a hello that can't be read")));
    }
}
