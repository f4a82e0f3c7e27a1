//! A connection to one rank that never waits: it moves the bytes that can be moved now, and keeps where it
//! stopped.
//!
//! What is sent goes out in frames, either straight from the caller's memory ([`Link::start`],
//! [`Link::write_on`]) or from a queue of whole messages that drains whenever the link is touched. What comes
//! is read frame by frame, never further than the caller asked for: bytes that nobody is ready for stay in
//! the peer's kernel, which is all the flow control there is, and bounds memory.

use super::Timing;
use super::frame::{BODY_BYTES_MAX, HEAD_BYTES, HELLO_BYTES_MAX, Head, Kind, invalid};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// Whole messages that may wait on a link for a rank that does not read: it has missed that many rounds.
pub const QUEUED_MAX: usize = 16;
/// Bytes that are thrown away at a time.
const WASTE_BYTES: usize = 16 << 10;
/// How often that is done for a connection that ends.
const WASTE_READS_MAX: usize = 64;

/// A message that waits to be sent.
#[derive(Clone, Debug)]
pub struct Queued {
    /// What it is.
    pub kind: Kind,
    /// Which operation it belongs to.
    pub tag: u32,
    /// What it says; shared by all links that carry it.
    pub bytes: Arc<Vec<u8>>,
}

/// A frame that is on its way out.
#[derive(Debug)]
struct Outgoing {
    head: [u8; HEAD_BYTES],
    /// Bytes sent, of head and body together.
    sent: usize,
}

/// A connection to one rank.
#[derive(Debug)]
pub struct Link {
    peer: u32,
    stream: TcpStream,
    /// The frame that the caller is sending from its own memory.
    direct: Option<Outgoing>,
    queue: VecDeque<Queued>,
    /// The frame of the queue's front that is on its way, and where in the message it begins.
    queued: Option<Outgoing>,
    queued_from: usize,
    head: [u8; HEAD_BYTES],
    head_got: usize,
    /// The head of the frame whose body comes now, and how much of that has come.
    current: Option<Head>,
    body_got: usize,
    /// A message that goes into memory of its own: its bytes, how many of them are of whole frames, and what
    /// it is.
    message: Vec<u8>,
    message_done: usize,
    message_is: Option<(Kind, u32)>,
    /// Contributions to this round and those before are thrown away unread.
    fenced: Option<u32>,
    skip: usize,
    heard: Instant,
    said: Instant,
}

impl Link {
    /// Takes over a connection on which the greeting is done.
    pub fn new(peer: u32, stream: TcpStream) -> io::Result<Link> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let now = Instant::now();
        Ok(Link {
            peer,
            stream,
            direct: None,
            queue: VecDeque::new(),
            queued: None,
            queued_from: 0,
            head: [0; HEAD_BYTES],
            head_got: 0,
            current: None,
            body_got: 0,
            message: Vec::new(),
            message_done: 0,
            message_is: None,
            fenced: None,
            skip: 0,
            heard: now,
            said: now,
        })
    }

    /// The rank at the other end.
    pub fn peer(&self) -> u32 {
        self.peer
    }

    /// For `poll`.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// When the last byte came.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// When the last byte was sent.
    pub fn said(&self) -> Instant {
        self.said
    }

    /// Nobody was listening until now, so that no silence has passed.
    pub fn listen_from(&mut self, now: Instant) {
        self.heard = now;
    }

    /// What the frame is whose head has come and whose body has not, if there is one.
    pub fn coming(&self) -> Option<Kind> {
        self.current.map(|head| head.kind)
    }

    /// Puts a message at the end of the queue; `false` when that is full.
    pub fn enqueue(&mut self, message: Queued) -> bool {
        let room = self.queue.len() < QUEUED_MAX;
        if room {
            self.queue.push_back(message);
        }
        room
    }

    /// Whether nothing is waiting or on its way.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.direct.is_none()
    }

    /// Starts a frame whose body the caller keeps, and gives again to each [`Link::write_on`].
    pub fn start(&mut self, head: Head) {
        self.direct = Some(Outgoing { head: head.encode(), sent: 0 });
    }

    /// Goes on with the frame that was started. `Some(true)`: it is out; `Some(false)`: some more of it is;
    /// `None`: nothing can be sent now.
    pub fn write_on(&mut self, body: &[u8]) -> io::Result<Option<bool>> {
        let Some(outgoing) = &mut self.direct else { return Ok(Some(true)) };
        let moved = write_some(&mut self.stream, outgoing, body)?;
        if moved {
            self.said = Instant::now();
        }
        if outgoing.sent == HEAD_BYTES + body.len() {
            self.direct = None;
            return Ok(Some(true));
        }
        Ok(moved.then_some(false))
    }

    /// Sends what it can of the queue; whether anything went out.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut any = false;
        // A frame of the caller's is on its way: the queue waits for its end.
        while self.direct.is_none() {
            let Some(front) = self.queue.front() else { break };
            let bytes = Arc::clone(&front.bytes);
            let end = bytes.len().min(self.queued_from + BODY_BYTES_MAX);
            let body = &bytes[self.queued_from..end];
            let (kind, tag, more) = (front.kind, front.tag, end < bytes.len());
            let start = || Outgoing { head: Head::of(kind, tag, more, body).encode(), sent: 0 };
            let outgoing = self.queued.get_or_insert_with(start);
            let moved = write_some(&mut self.stream, outgoing, body)?;
            if moved {
                any = true;
                self.said = Instant::now();
            }
            if outgoing.sent == HEAD_BYTES + body.len() {
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

    /// Says that we are alive, if nothing was said for long and nothing waits to be.
    pub fn beat(&mut self, timing: Timing, now: Instant) {
        if self.is_drained() && now.saturating_duration_since(self.said) >= timing.beat {
            self.said = now;
            self.enqueue(Queued { kind: Kind::Beat, tag: 0, bytes: Arc::default() });
        }
    }

    /// Contributions to `round` and those before come too late from now on: they are thrown away, also one
    /// that has come in part.
    pub fn fence(&mut self, round: u32) {
        self.fenced = Some(round);
        let late = |kind, tag| kind == Kind::Contribution && tag <= round;
        if self.message_is.is_some_and(|(kind, tag)| late(kind, tag)) {
            (self.message, self.message_done, self.message_is) = (Vec::new(), 0, None);
        }
        if let Some(head) = self.current.filter(|head| late(head.kind, head.tag)) {
            self.skip = head.length - self.body_got;
            self.current = None;
        }
    }

    /// The head of the frame that comes now, as soon as it is there. Signs of life and late contributions are
    /// passed over.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if self.skip > 0 {
                let mut waste = [0; WASTE_BYTES];
                let most = self.skip.min(WASTE_BYTES);
                let Some(got) = read_some(&mut self.stream, &mut waste[..most])? else { return Ok(None) };
                self.heard = Instant::now();
                self.skip -= got;
                continue;
            }
            if let Some(head) = self.current {
                if head.kind == Kind::GaveUp {
                    return self.gave_up(head);
                }
                return Ok(Some(head));
            }
            let Some(got) = read_some(&mut self.stream, &mut self.head[self.head_got..])? else {
                return Ok(None);
            };
            self.heard = Instant::now();
            self.head_got += got;
            if self.head_got < HEAD_BYTES {
                continue;
            }
            self.head_got = 0;
            let head = Head::decode(self.head, BODY_BYTES_MAX).map_err(invalid)?;
            if head.kind == Kind::Beat && head.length == 0 {
                continue;
            }
            if head.kind == Kind::Contribution && self.fenced.is_some_and(|round| head.tag <= round) {
                self.skip = head.length;
                continue;
            }
            self.body_got = 0;
            self.current = Some(head);
        }
    }

    /// The peer ends, and says why.
    fn gave_up(&mut self, head: Head) -> io::Result<Option<Head>> {
        if head.length > HELLO_BYTES_MAX {
            return Err(invalid(format!("a farewell of {} bytes", head.length)));
        }
        let mut reason = std::mem::take(&mut self.message);
        reason.resize(head.length, 0);
        let whole = loop {
            match self.read_on(&mut reason)? {
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

    /// Reads on in the body of the frame whose head has come, which must be as long as `into`. `true`: it is
    /// whole.
    ///
    /// `None`: nothing is there now.
    pub fn read_on(&mut self, into: &mut [u8]) -> io::Result<Option<bool>> {
        let Some(head) = self.current else { return Ok(None) };
        if self.body_got < into.len() {
            let Some(got) = read_some(&mut self.stream, &mut into[self.body_got..])? else { return Ok(None) };
            self.heard = Instant::now();
            self.body_got += got;
        }
        if self.body_got < into.len() {
            return Ok(Some(false));
        }
        head.verify(into).map_err(invalid)?;
        self.current = None;
        Ok(Some(true))
    }

    /// The message that comes now, once it is whole, into memory of its own: at most `limit` bytes, and never
    /// more than a frame ahead of what has come.
    pub fn message(&mut self, limit: usize) -> io::Result<Option<(Kind, u32, Vec<u8>)>> {
        while let Some(head) = self.head()? {
            let is = (head.kind, head.tag);
            if *self.message_is.get_or_insert(is) != is {
                return Err(invalid(format!("{} in the middle of another message", head.kind.name())));
            }
            let end = self.message_done + head.length;
            if end > limit {
                return Err(invalid(format!("{} of more than {limit} bytes", head.kind.name())));
            }
            let mut message = std::mem::take(&mut self.message);
            message.resize(end, 0);
            let read = self.read_on(&mut message[self.message_done..]);
            self.message = message;
            match read? {
                None => return Ok(None),
                Some(false) => {}
                Some(true) if head.more => self.message_done = end,
                Some(true) => {
                    (self.message_done, self.message_is) = (0, None);
                    return Ok(Some((head.kind, head.tag, std::mem::take(&mut self.message))));
                }
            }
        }
        Ok(None)
    }

    /// Says why we give up, if that can be said at once.
    pub fn farewell(&mut self, reason: &str) {
        if self.is_drained() {
            self.enqueue(Queued { kind: Kind::GaveUp, tag: 0, bytes: Arc::new(reason.as_bytes().to_vec()) });
            // Whoever can't be told sees that the connection ends.
            let _ = self.drain();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Bytes that lie here unread would make the kernel end the connection at once, and what we sent last
        // might be lost.
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut waste = [0; WASTE_BYTES];
        for _ in 0..WASTE_READS_MAX {
            if !matches!(read_some(&mut self.stream, &mut waste), Ok(Some(_))) {
                break;
            }
        }
    }
}

/// Sends what can be sent of a frame now; whether that was anything.
fn write_some(stream: &mut TcpStream, outgoing: &mut Outgoing, body: &[u8]) -> io::Result<bool> {
    let head = &outgoing.head[outgoing.sent.min(HEAD_BYTES)..];
    let rest = &body[outgoing.sent.saturating_sub(HEAD_BYTES)..];
    match stream.write_vectored(&[IoSlice::new(head), IoSlice::new(rest)]) {
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

/// Reads what is there now; `None`: nothing.
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
