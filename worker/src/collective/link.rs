//! A connection to one rank: a thread that reads, a thread that says now and then that we are alive.
//!
//! The reader takes frames off the wire at all times, so that a rank which is still computing never stops the other's writes, and a
//! silence means that the rank is gone, not that it is slow.

use super::{
    Error, Timing,
    frame::{self, FRAME_BYTES_MAX, Frame},
};
use std::{
    io,
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    thread,
    time::Duration,
};

/// Frames read ahead; ranks go in step, so that no more than one is ever due.
const FRAMES_AHEAD_MAX: usize = 2;

/// A connection to one rank.
#[derive(Debug)]
pub struct Link {
    peer: u32,
    writer: Arc<Mutex<TcpStream>>,
    frames: Receiver<io::Result<Frame>>,
    silence: Duration,
    /// Dropped with the link: the beating thread ends.
    _beating: Sender<()>,
}

impl Link {
    /// Takes over a connection on which the greeting is done.
    pub fn new(peer: u32, stream: TcpStream, timing: Timing) -> io::Result<Link> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timing.silence))?;
        stream.set_write_timeout(Some(timing.silence))?;
        let reader = stream.try_clone()?;
        let writer = Arc::new(Mutex::new(stream));
        let (deliver, frames) = mpsc::sync_channel(FRAMES_AHEAD_MAX);
        thread::Builder::new().name(format!("rank-{peer}-read")).spawn(move || read_all(reader, &deliver))?;
        let (beating, ended) = mpsc::channel();
        let beater = Arc::clone(&writer);
        thread::Builder::new().name(format!("rank-{peer}-beat")).spawn(move || beat(&beater, &ended, timing.beat))?;
        Ok(Link { peer, writer, frames, silence: timing.silence, _beating: beating })
    }

    /// The rank at the other end.
    pub fn peer(&self) -> u32 {
        self.peer
    }

    /// Sends one frame.
    pub fn send(&mut self, frame: &Frame) -> Result<(), Error> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        frame::write(&mut *writer, frame).map_err(|e| self.lost(&e))
    }

    /// Waits for the next frame, as long as the rank shows signs of life.
    pub fn receive(&mut self) -> Result<Frame, Error> {
        match self.frames.recv() {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(mpsc::RecvError) => Err(Error::Lost { rank: self.peer, reason: "it was lost before".to_owned() }),
        }
    }

    fn lost(&self, error: &io::Error) -> Error {
        let reason = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("no sign of life for {:.1} s", self.silence.as_secs_f64()),
            io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            _ => error.to_string(),
        };
        Error::Lost { rank: self.peer, reason }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Both threads end by it. That it is closed already is no matter.
        let _ = writer.shutdown(Shutdown::Both);
    }
}

fn read_all(mut reader: TcpStream, deliver: &SyncSender<io::Result<Frame>>) {
    loop {
        let read = frame::read(&mut reader, FRAME_BYTES_MAX);
        let ended = read.is_err();
        if matches!(read, Ok(Frame::Beat)) {
            continue;
        }
        if deliver.send(read).is_err() || ended {
            return;
        }
    }
}

fn beat(writer: &Mutex<TcpStream>, ended: &Receiver<()>, every: Duration) {
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(every) {
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        if frame::write(&mut *writer, &Frame::Beat).is_err() {
            return;
        }
    }
}
