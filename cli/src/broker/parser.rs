//! Bytes to operations, and violations of the protocol. It allocates only for bytes that have arrived, never
//! for announced lengths.

use super::limits::{CONTROL_LINE_BYTES_MAX, PAYLOAD_BYTES_MAX};
use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;

#[derive(Debug, PartialEq, Eq)]
pub enum Operation {
    Connect(ConnectOptions),
    Ping,
    /// A client's answer, or something without effect.
    Ignored,
    Publish(Publication),
    Subscribe {
        pattern: Box<[u8]>,
        /// The queue group: each message goes to one of its members.
        queue: Option<Box<[u8]>>,
        /// The subscription id, chosen by the client.
        sid: Box<[u8]>,
    },
    Unsubscribe {
        sid: Box<[u8]>,
        /// Unsubscribe after this many deliveries in all; `None`: now.
        deliveries_max: Option<u64>,
    },
}

/// The options of `CONNECT`. The defaults are those of `nats-server` before `CONNECT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConnectOptions {
    /// Answer every operation with `+OK`.
    pub verbose: bool,
    /// Deliver the client's own messages to it.
    pub echo: bool,
    /// The client supports `HMSG`.
    pub headers: bool,
    /// Answer a request that has no subscriber.
    pub no_responders: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions { verbose: true, echo: true, headers: false, no_responders: false }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Publication {
    pub subject: Bytes,
    /// The subject for replies.
    pub reply: Option<Bytes>,
    /// The part of `payload` that is headers; 0 for none.
    pub header_bytes: usize,
    /// Headers and body.
    pub payload: Bytes,
}

/// A violation of the protocol: the client gets the error and is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    UnknownOperation,
    /// A line is longer than its limit.
    ControlLine,
    /// A payload is larger than its limit.
    Payload,
    /// Invalid arguments.
    Arguments,
    /// Headers from a client that did not announce them.
    Headers,
}

impl Violation {
    /// The error text of `nats-server`.
    pub fn message(self) -> &'static str {
        match self {
            Violation::UnknownOperation => "Unknown Protocol Operation",
            Violation::ControlLine => "maximum control line exceeded",
            Violation::Payload => "Maximum Payload Violation",
            Violation::Arguments => "Parser Error",
            Violation::Headers => "message headers not supported",
        }
    }
}

const OPERATIONS: &[&[u8]] =
    &[b"CONNECT", b"PING", b"PONG", b"PUB", b"HPUB", b"SUB", b"UNSUB", b"INFO", b"+OK"];

/// Takes the next operation off `input`; `None` if it is not complete yet.
pub fn next(input: &mut BytesMut) -> Result<Option<Operation>, Violation> {
    let searched = &input[..input.len().min(CONTROL_LINE_BYTES_MAX + 2)];
    let Some(line_feed) = searched.iter().position(|b| *b == b'\n') else {
        if !may_begin_operation(input) {
            return Err(Violation::UnknownOperation);
        }
        return if searched.len() > CONTROL_LINE_BYTES_MAX { Err(Violation::ControlLine) } else { Ok(None) };
    };
    let line = input[..line_feed].strip_suffix(b"\r").unwrap_or(&input[..line_feed]);
    let word = line.split(|b| b.is_ascii_whitespace()).next().unwrap_or_default();
    let rest = &line[word.len()..];
    let operation = match word.to_ascii_uppercase().as_slice() {
        b"CONNECT" => Operation::Connect(serde_json::from_slice(rest).map_err(|_| Violation::Arguments)?),
        b"PING" => Operation::Ping,
        b"PONG" | b"INFO" | b"+OK" => Operation::Ignored,
        b"PUB" => return publish(input, line_feed, word.len(), false),
        b"HPUB" => return publish(input, line_feed, word.len(), true),
        b"SUB" => subscribe(rest)?,
        b"UNSUB" => unsubscribe(rest)?,
        _ => return Err(Violation::UnknownOperation),
    };
    input.advance(line_feed + 1);
    Ok(Some(operation))
}

/// Whether an incomplete line may still become an operation.
fn may_begin_operation(input: &[u8]) -> bool {
    OPERATIONS.iter().any(|operation| {
        let shared = operation.len().min(input.len());
        operation[..shared].eq_ignore_ascii_case(&input[..shared])
            && input.get(shared).is_none_or(|b| b.is_ascii_whitespace())
    })
}

fn arguments(rest: &[u8]) -> Vec<&[u8]> {
    rest.split(|b| b.is_ascii_whitespace()).filter(|argument| !argument.is_empty()).collect()
}

fn number(text: &[u8]) -> Result<u64, Violation> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Violation::Arguments)
}

fn subscribe(rest: &[u8]) -> Result<Operation, Violation> {
    match arguments(rest).as_slice() {
        [pattern, sid] => {
            Ok(Operation::Subscribe { pattern: (*pattern).into(), queue: None, sid: (*sid).into() })
        }
        [pattern, queue, sid] => Ok(Operation::Subscribe {
            pattern: (*pattern).into(),
            queue: Some((*queue).into()),
            sid: (*sid).into(),
        }),
        _ => Err(Violation::Arguments),
    }
}

fn unsubscribe(rest: &[u8]) -> Result<Operation, Violation> {
    match arguments(rest).as_slice() {
        [sid] => Ok(Operation::Unsubscribe { sid: (*sid).into(), deliveries_max: None }),
        [sid, max] => Ok(Operation::Unsubscribe {
            sid: (*sid).into(),
            deliveries_max: Some(number(max)?).filter(|max| *max > 0),
        }),
        _ => Err(Violation::Arguments),
    }
}

/// `PUB subject [reply] bytes` and `HPUB subject [reply] header-bytes bytes`, with the payload on the next
/// line.
fn publish(
    input: &mut BytesMut,
    line_feed: usize,
    word_bytes: usize,
    headers: bool,
) -> Result<Option<Operation>, Violation> {
    let found = arguments(&input[word_bytes..line_feed]);
    let (names, numbers) =
        found.split_at(found.len().checked_sub(1 + usize::from(headers)).ok_or(Violation::Arguments)?);
    let sizes = numbers.iter().map(|text| number(text)).collect::<Result<Vec<u64>, Violation>>()?;
    let (subject, reply) = match names {
        [subject] => (*subject, None),
        [subject, reply] => (*subject, Some(*reply)),
        _ => return Err(Violation::Arguments),
    };
    let (header_bytes, payload_bytes) = if headers { (sizes[0], sizes[1]) } else { (0, sizes[0]) };
    if payload_bytes > PAYLOAD_BYTES_MAX as u64 {
        return Err(Violation::Payload);
    }
    if header_bytes > payload_bytes {
        return Err(Violation::Arguments);
    }
    // Both are at most PAYLOAD_BYTES_MAX now.
    let (header_bytes, payload_bytes) = (header_bytes as usize, payload_bytes as usize);
    let (body, end) = (line_feed + 1, line_feed + 1 + payload_bytes);
    let tail = &input[end.min(input.len())..(end + 2).min(input.len())];
    if !b"\r\n".starts_with(tail) {
        return Err(Violation::UnknownOperation);
    }
    if tail.len() < 2 {
        return Ok(None);
    }
    let (subject, reply) = (Bytes::copy_from_slice(subject), reply.map(Bytes::copy_from_slice));
    let mut message = input.split_to(end + 2).freeze();
    message.truncate(end);
    message.advance(body);
    Ok(Some(Operation::Publish(Publication { subject, reply, header_bytes, payload: message })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> (Vec<Operation>, Option<Violation>, usize) {
        let mut input = BytesMut::from(bytes);
        let mut operations = Vec::new();
        loop {
            match next(&mut input) {
                Ok(Some(operation)) => operations.push(operation),
                Ok(None) => return (operations, None, input.len()),
                Err(violation) => return (operations, Some(violation), input.len()),
            }
        }
    }

    #[test]
    fn an_operation_is_taken_only_once_it_is_complete() {
        let script =
            b"CONNECT {\"verbose\":false}\r\nSUB a.* q 7\r\nHPUB a.b r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPUB a 0\r\n\r\nUNSUB 7 3\r\nping\n";
        let (whole, violation, left) = all(script);
        assert_eq!((whole.len(), violation, left), (6, None, 0));
        assert_eq!(
            whole[2],
            Operation::Publish(Publication {
                subject: Bytes::from_static(b"a.b"),
                reply: Some(Bytes::from_static(b"r")),
                header_bytes: 12,
                payload: Bytes::from_static(b"NATS/1.0\r\n\r\nhi"),
            })
        );
        // Byte by byte, the same operations come out.
        let mut input = BytesMut::new();
        let mut fed = Vec::new();
        for byte in script {
            input.extend_from_slice(&[*byte]);
            while let Some(operation) = next(&mut input).expect("the script is valid") {
                fed.push(operation);
            }
        }
        assert_eq!(fed, whole);
    }

    #[test]
    fn what_breaks_the_protocol_is_named() {
        let long = [b"PUB ".as_slice(), &[b'a'; 5000]].concat();
        let table: &[(&[u8], Violation)] = &[
            (b"GET / HTTP/1.1\r\n", Violation::UnknownOperation),
            (b"GET / HT", Violation::UnknownOperation),
            (b"\r\n", Violation::UnknownOperation),
            (b"\x00\xff\x01", Violation::UnknownOperation),
            (b"PUBLISH a 1\r\n", Violation::UnknownOperation),
            (b"PUB a 1048577\r\n", Violation::Payload),
            (b"PUB a 18446744073709551615\r\n", Violation::Payload),
            (b"PUB a 18446744073709551616\r\n", Violation::Arguments),
            (b"PUB a -1\r\n", Violation::Arguments),
            (b"PUB\r\n", Violation::Arguments),
            (b"PUB a\r\n", Violation::Arguments),
            (b"HPUB a 3 2\r\n", Violation::Arguments),
            (b"HPUB 3 2\r\n", Violation::Arguments),
            (b"PUB a 2\r\nabc\r\n", Violation::UnknownOperation),
            (b"SUB a\r\n", Violation::Arguments),
            (b"SUB a b c d\r\n", Violation::Arguments),
            (b"UNSUB\r\n", Violation::Arguments),
            (b"UNSUB 1 x\r\n", Violation::Arguments),
            (b"CONNECT {\r\n", Violation::Arguments),
            (&long, Violation::ControlLine),
        ];
        for (bytes, violation) in table {
            assert_eq!(all(bytes).1, Some(*violation), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn no_cut_and_no_flipped_byte_makes_it_panic() {
        let script = b"CONNECT {}\r\nSUB a.* q 7\r\nHPUB a.b r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPUB a 3\r\nabc\r\nUNSUB 7 3\r\nPING\r\n";
        for cut in 0..script.len() {
            assert_eq!(all(&script[..cut]).1, None, "a cut at {cut} is only not complete");
            for byte in [0, b'\r', b'\n', b' ', b'9', b'-', 0xff] {
                let mut flipped = script.to_vec();
                flipped[cut] = byte;
                let (operations, _, left) = all(&flipped);
                assert!(operations.len() <= 8 && left <= flipped.len());
            }
        }
    }
}
