//! Frames between ranks: a little-endian `u32` length, a kind, a body.

use super::Member;
use std::io::{self, Read, Write};

/// The longest frame of somebody who has not been let in.
pub const HELLO_BYTES_MAX: usize = 4 << 10;
/// The longest frame of a rank.
pub const FRAME_BYTES_MAX: usize = 1 << 30;
/// Scalars that may go along with a vector.
const SCALARS_MAX: usize = 1 << 16;

/// What ranks say to each other.
#[derive(Debug, PartialEq)]
pub enum Frame {
    /// The first word of whoever calls.
    Hello(Member),
    /// It is let in.
    Welcome,
    /// It is turned away, for this reason.
    Refused(String),
    /// A sign of life.
    Beat,
    /// Numbers to sum, or their sums.
    Sums(Vec<f32>, Vec<f64>),
    /// Anything else that ranks share.
    Bytes(Vec<u8>),
}

impl Frame {
    /// What it is, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Frame::Hello(_) => "a hello",
            Frame::Welcome => "a welcome",
            Frame::Refused(_) => "a refusal",
            Frame::Beat => "a sign of life",
            Frame::Sums(..) => "numbers",
            Frame::Bytes(_) => "bytes",
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 5];
        out[4] = match self {
            Frame::Hello(member) => {
                out.extend(serde_json::to_vec(member).unwrap_or_default());
                1
            }
            Frame::Welcome => 2,
            Frame::Refused(reason) => {
                out.extend(reason.as_bytes());
                3
            }
            Frame::Beat => 4,
            Frame::Sums(vector, scalars) => {
                out.reserve_exact(4 + scalars.len() * 8 + vector.len() * 4);
                out.extend((scalars.len() as u32).to_le_bytes());
                scalars.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
                vector.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
                5
            }
            Frame::Bytes(bytes) => {
                out.extend(bytes);
                6
            }
        };
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_le_bytes());
        out
    }

    fn decode(kind: u8, body: Vec<u8>) -> Result<Frame, String> {
        match kind {
            1 => serde_json::from_slice(&body).map(Frame::Hello).map_err(|e| format!("a hello that is none: {e}")),
            2 if body.is_empty() => Ok(Frame::Welcome),
            3 => Ok(Frame::Refused(String::from_utf8_lossy(&body).into_owned())),
            4 if body.is_empty() => Ok(Frame::Beat),
            5 => decode_sums(&body).ok_or_else(|| format!("{} bytes that are no numbers", body.len())),
            6 => Ok(Frame::Bytes(body)),
            other => Err(format!("a frame of {} bytes and the unknown kind {other}", body.len())),
        }
    }
}

fn decode_sums(body: &[u8]) -> Option<Frame> {
    let (count, rest) = body.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    if count > SCALARS_MAX || rest.len() < count * 8 {
        return None;
    }
    let (scalars, vector) = rest.split_at(count * 8);
    if !vector.len().is_multiple_of(4) {
        return None;
    }
    let scalars = scalars.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    let vector = vector.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Some(Frame::Sums(vector, scalars))
}

/// Writes one frame.
pub fn write(to: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let bytes = frame.encode();
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {} bytes is over the limit of {FRAME_BYTES_MAX}", bytes.len())));
    }
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads one frame of at most `limit` bytes. Memory follows the bytes that come, not those that are announced.
pub fn read(from: &mut impl Read, limit: usize) -> io::Result<Frame> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [a, b, c, d, kind] = head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    if length == 0 || length > limit {
        return Err(invalid(format!("a frame of {length} bytes, where at most {limit} may come")));
    }
    let mut body = Vec::new();
    let got = from.take(length as u64 - 1).read_to_end(&mut body)?;
    if got < length - 1 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Frame::decode(kind, body).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member { cluster: "c".to_owned(), job: "job-1".to_owned(), stage: 2, formation: 3, rank: 1, world: 2 }
    }

    #[test]
    fn frames_come_back_as_they_went() {
        let frames = [
            Frame::Hello(member()),
            Frame::Welcome,
            Frame::Refused("no".to_owned()),
            Frame::Beat,
            Frame::Sums(vec![1.5, -0.0, f32::MIN_POSITIVE], vec![2.5]),
            Frame::Sums(Vec::new(), Vec::new()),
            Frame::Bytes(vec![0, 1, 255]),
        ];
        for frame in frames {
            let mut bytes = Vec::new();
            write(&mut bytes, &frame).unwrap();
            assert_eq!(read(&mut &bytes[..], FRAME_BYTES_MAX).unwrap(), frame);
            for cut in 0..bytes.len() {
                assert!(read(&mut &bytes[..cut], FRAME_BYTES_MAX).is_err(), "{} cut at {cut}", frame.name());
            }
        }
    }

    #[test]
    fn garbage_is_refused() {
        let table: [(&[u8], &str); 7] = [
            (b"GET / HTTP/1.1\r\n\r\n", "at most"),
            (&[0, 0, 0, 0, 1], "at most"),
            (&[255, 255, 255, 255, 5, 1, 2, 3], "at most"),
            (&[1, 0, 0, 0, 9], "unknown kind 9"),
            (&[3, 0, 0, 0, 1, b'{', b'}'], "a hello that is none"),
            (&[5, 0, 0, 0, 5, 255, 255, 255, 255], "no numbers"),
            (&[2, 0, 0, 0, 2, 0], "unknown kind 2"),
        ];
        for (bytes, expected) in table {
            let message = read(&mut &bytes[..], HELLO_BYTES_MAX).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
