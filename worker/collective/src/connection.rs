//! A non-blocking connection to one rank: it moves the bytes that can be moved now, and remembers where it
//! stopped.
//!
//! Frames are sent either straight from the caller's memory ([`Connection::start_frame`],
//! [`Connection::continue_write`]) or from a queue of whole messages, drained by [`Connection::drain`].
//! Frames are received one at a time, never further than the caller asked: bytes that no operation is ready
//! for stay in the kernels' buffers. That is the only flow control, and it bounds memory.

use super::frame::{BODY_BYTES_MAX, FrameHeader, HEADER_BYTES, HELLO_BYTES_MAX, Kind, invalid};
use super::timeouts::Timeouts;
use muster_host::frame::Header;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// Messages that may be queued for a rank that does not read: it has missed that many rounds.
pub const QUEUED_MAX: usize = 16;
/// Unwanted bytes that are read at a time.
const DISCARD_BYTES: usize = 16 << 10;
/// How many such reads a connection makes when it is closed.
const DISCARD_READS_MAX: usize = 64;

/// A message that is to be sent.
#[derive(Clone, Debug)]
pub struct QueuedMessage {
    /// What it holds.
    pub kind: Kind,
    /// The operation or round.
    pub tag: u32,
    /// The bodies of its frames together; shared by all connections that carry it.
    pub bytes: Arc<Vec<u8>>,
}

/// A frame that is partly sent.
#[derive(Debug)]
struct OutgoingFrame {
    header: [u8; HEADER_BYTES],
    /// Bytes sent, of header and body together.
    sent: usize,
}

/// A connection to one rank.
#[derive(Debug)]
pub struct Connection {
    peer: u32,
    stream: TcpStream,
    /// The frame that the caller is sending from its own memory.
    direct: Option<OutgoingFrame>,
    queue: VecDeque<QueuedMessage>,
    /// The partly sent frame of the message at the front of the queue, and where in the message it begins.
    queued: Option<OutgoingFrame>,
    queued_from: usize,
    header: [u8; HEADER_BYTES],
    header_received: usize,
    /// The header of the frame whose body is being received, and how many bytes of that have arrived.
    current: Option<FrameHeader>,
    body_received: usize,
    /// The message that [`Connection::next_message`] is receiving: its bytes, how many of them are of whole
    /// frames, and its kind and tag.
    message: Vec<u8>,
    message_done: usize,
    message_is: Option<(Kind, u32)>,
    /// Contributions to this round and earlier ones are discarded.
    fenced: Option<u32>,
    to_discard: usize,
    last_received: Instant,
    last_sent: Instant,
}

impl Connection {
    /// Takes over a stream on which the handshake is done.
    pub fn new(peer: u32, stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let now = Instant::now();
        Ok(Connection {
            peer,
            stream,
            direct: None,
            queue: VecDeque::new(),
            queued: None,
            queued_from: 0,
            header: [0; HEADER_BYTES],
            header_received: 0,
            current: None,
            body_received: 0,
            message: Vec::new(),
            message_done: 0,
            message_is: None,
            fenced: None,
            to_discard: 0,
            last_received: now,
            last_sent: now,
        })
    }

    /// The rank at the other end.
    pub fn peer(&self) -> u32 {
        self.peer
    }

    /// The stream, for `poll`.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// When the last byte arrived.
    pub fn last_received(&self) -> Instant {
        self.last_received
    }

    /// When the last byte was sent.
    pub fn last_sent(&self) -> Instant {
        self.last_sent
    }

    /// The time before `now`, in which this rank did not read, does not count as silence.
    pub fn restart_silence(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// The kind of the frame whose header has arrived and whose body has not.
    pub fn incoming_kind(&self) -> Option<Kind> {
        self.current.map(|header| header.kind)
    }

    /// Queues a message; `false` if the queue is full.
    pub fn enqueue(&mut self, message: QueuedMessage) -> bool {
        let room = self.queue.len() < QUEUED_MAX;
        if room {
            self.queue.push_back(message);
        }
        room
    }

    /// Whether nothing is queued or partly sent.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.direct.is_none()
    }

    /// Starts a frame whose body the caller keeps, and passes to each [`Connection::continue_write`].
    pub fn start_frame(&mut self, header: FrameHeader) {
        self.direct = Some(OutgoingFrame { header: header.encode(), sent: 0 });
    }

    /// Sends more of the frame that was started. `Some(true)`: it is sent; `Some(false)`: more of it is;
    /// `None`: no byte can be sent now.
    pub fn continue_write(&mut self, body: &[u8]) -> io::Result<Option<bool>> {
        let Some(outgoing) = &mut self.direct else { return Ok(Some(true)) };
        let moved = write_some(&mut self.stream, outgoing, body)?;
        if moved {
            self.last_sent = Instant::now();
        }
        if outgoing.sent == HEADER_BYTES + body.len() {
            self.direct = None;
            return Ok(Some(true));
        }
        Ok(moved.then_some(false))
    }

    /// Sends what it can of the queue; returns whether any byte was sent.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut any = false;
        // The queue waits for the end of the caller's own frame.
        while self.direct.is_none() {
            let Some(front) = self.queue.front() else { break };
            let bytes = Arc::clone(&front.bytes);
            let end = bytes.len().min(self.queued_from + BODY_BYTES_MAX);
            let body = &bytes[self.queued_from..end];
            let (kind, tag, more) = (front.kind, front.tag, end < bytes.len());
            let start =
                || OutgoingFrame { header: FrameHeader::new(kind, tag, more, body).encode(), sent: 0 };
            let outgoing = self.queued.get_or_insert_with(start);
            let moved = write_some(&mut self.stream, outgoing, body)?;
            if moved {
                any = true;
                self.last_sent = Instant::now();
            }
            if outgoing.sent == HEADER_BYTES + body.len() {
                self.queued = None;
                self.queued_from = end;
                if !more {
                    self.queued_from = 0;
                    self.queue.pop_front();
                }
            } else if !moved {
                break;
            }
        }
        Ok(any)
    }

    /// Sends a heartbeat if it is due and nothing else is being sent.
    pub fn heartbeat(&mut self, timeouts: Timeouts, now: Instant) {
        if self.is_drained() && now.saturating_duration_since(self.last_sent) >= timeouts.heartbeat_interval {
            self.last_sent = now;
            self.enqueue(QueuedMessage { kind: Kind::Heartbeat, tag: 0, bytes: Arc::default() });
        }
    }

    /// Discards contributions to `round` and earlier ones from now on, including one that has partly arrived.
    pub fn fence(&mut self, round: u32) {
        self.fenced = Some(round);
        let late = |kind, tag| kind == Kind::Contribution && tag <= round;
        if self.message_is.is_some_and(|(kind, tag)| late(kind, tag)) {
            (self.message, self.message_done, self.message_is) = (Vec::new(), 0, None);
        }
        if let Some(header) = self.current.filter(|header| late(header.kind, header.tag)) {
            self.to_discard = header.length - self.body_received;
            self.current = None;
        }
    }

    /// The header of the next frame, if it has arrived. Heartbeats and late contributions are skipped.
    pub fn next_header(&mut self) -> io::Result<Option<FrameHeader>> {
        loop {
            if self.to_discard > 0 {
                let mut discarded = [0; DISCARD_BYTES];
                let wanted = self.to_discard.min(DISCARD_BYTES);
                let Some(got) = read_some(&mut self.stream, &mut discarded[..wanted])? else {
                    return Ok(None);
                };
                self.last_received = Instant::now();
                self.to_discard -= got;
                continue;
            }
            if let Some(header) = self.current {
                if header.kind == Kind::GaveUp {
                    return self.gave_up(header);
                }
                return Ok(Some(header));
            }
            let Some(got) = read_some(&mut self.stream, &mut self.header[self.header_received..])? else {
                return Ok(None);
            };
            self.last_received = Instant::now();
            self.header_received += got;
            if self.header_received < HEADER_BYTES {
                continue;
            }
            self.header_received = 0;
            let header = FrameHeader::decode(self.header, BODY_BYTES_MAX)?;
            if header.kind == Kind::Heartbeat && header.length == 0 {
                continue;
            }
            if header.kind == Kind::Contribution && self.fenced.is_some_and(|round| header.tag <= round) {
                self.to_discard = header.length;
                continue;
            }
            self.body_received = 0;
            self.current = Some(header);
        }
    }

    /// The peer gives up: an error with its reason, once that has arrived.
    fn gave_up(&mut self, header: FrameHeader) -> io::Result<Option<FrameHeader>> {
        if header.length > HELLO_BYTES_MAX {
            return Err(invalid(format!("{} of {} bytes", header.kind.name(), header.length)));
        }
        let mut reason = std::mem::take(&mut self.message);
        reason.resize(header.length, 0);
        let whole = loop {
            match self.continue_read(&mut reason)? {
                Some(true) => break true,
                Some(false) => {}
                None => break false,
            }
        };
        if whole {
            return Err(io::Error::other(format!(
                "it gave up: failed to {}",
                String::from_utf8_lossy(&reason)
            )));
        }
        self.message = reason;
        Ok(None)
    }

    /// Receives more of the body of the current frame, which must be as long as `into`. `Some(true)`: it is
    /// whole; `Some(false)`: more of it has arrived; `None`: no byte has.
    pub fn continue_read(&mut self, into: &mut [u8]) -> io::Result<Option<bool>> {
        let Some(header) = self.current else { return Ok(None) };
        if self.body_received < into.len() {
            let Some(got) = read_some(&mut self.stream, &mut into[self.body_received..])? else {
                return Ok(None);
            };
            self.last_received = Instant::now();
            self.body_received += got;
        }
        if self.body_received < into.len() {
            return Ok(Some(false));
        }
        header.verify(into)?;
        self.current = None;
        Ok(Some(true))
    }

    /// The next message, once it is whole: at most `limit` bytes. Memory is taken one frame ahead of the
    /// bytes that have arrived.
    pub fn next_message(&mut self, limit: usize) -> io::Result<Option<(Kind, u32, Vec<u8>)>> {
        while let Some(header) = self.next_header()? {
            let is = (header.kind, header.tag);
            if *self.message_is.get_or_insert(is) != is {
                return Err(invalid(format!("{} in the middle of another message", header.kind.name())));
            }
            let end = self.message_done + header.length;
            if end > limit {
                return Err(invalid(format!("{} of more than {limit} bytes", header.kind.name())));
            }
            let mut message = std::mem::take(&mut self.message);
            message.resize(end, 0);
            let read = self.continue_read(&mut message[self.message_done..]);
            self.message = message;
            match read? {
                None => return Ok(None),
                Some(false) => {}
                Some(true) if header.more => self.message_done = end,
                Some(true) => {
                    (self.message_done, self.message_is) = (0, None);
                    return Ok(Some((header.kind, header.tag, std::mem::take(&mut self.message))));
                }
            }
        }
        Ok(None)
    }

    /// Tells the peer why we give up, if that can be sent at once.
    pub fn send_gave_up(&mut self, reason: &str) {
        if self.is_drained() {
            self.enqueue(QueuedMessage {
                kind: Kind::GaveUp,
                tag: 0,
                bytes: Arc::new(reason.as_bytes().to_vec()),
            });
            // A peer that does not get it sees that the connection is closed.
            let _ = self.drain();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // With unread bytes the kernel would reset the connection, and the peer might lose what we sent last.
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut discarded = [0; DISCARD_BYTES];
        for _ in 0..DISCARD_READS_MAX {
            if !matches!(read_some(&mut self.stream, &mut discarded), Ok(Some(_))) {
                break;
            }
        }
    }
}

/// Sends what can be sent of a frame now; returns whether any byte was.
fn write_some(stream: &mut TcpStream, outgoing: &mut OutgoingFrame, body: &[u8]) -> io::Result<bool> {
    let header = &outgoing.header[outgoing.sent.min(HEADER_BYTES)..];
    let rest = &body[outgoing.sent.saturating_sub(HEADER_BYTES)..];
    match stream.write_vectored(&[IoSlice::new(header), IoSlice::new(rest)]) {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Ok(sent) => {
            outgoing.sent += sent;
            Ok(true)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Reads the bytes that have arrived; `None`: there are none.
fn read_some(stream: &mut TcpStream, into: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(into) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(got) => Ok(Some(got)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
