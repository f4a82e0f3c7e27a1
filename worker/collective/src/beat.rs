//! Signs of life while a rank computes: a thread that says now and then that we are alive, and lets go out
//! what a late rank has not taken.

use super::Timing;
use super::link::Link;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, TryLockError, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

/// Between two looks while something waits to go out.
const BACKLOG: Duration = Duration::from_millis(20);

/// Starts the thread; it ends when what it gives is dropped.
pub fn start(links: Weak<Mutex<Vec<Link>>>, timing: Timing) -> io::Result<Sender<()>> {
    let (beating, ended) = mpsc::channel::<()>();
    thread::Builder::new().name("rank-beat".to_owned()).spawn(move || {
        let mut pause = timing.beat / 2;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(pause) {
            let Some(links) = links.upgrade() else { return };
            pause = match links.try_lock() {
                Ok(mut links) => pulse(&mut links, timing),
                // An operation is under way, and beats itself.
                Err(TryLockError::WouldBlock) => timing.beat / 2,
                Err(TryLockError::Poisoned(_)) => return,
            };
        }
    })?;
    Ok(beating)
}

/// Beats on all links; how long to wait for the next time.
fn pulse(links: &mut [Link], timing: Timing) -> Duration {
    let now = Instant::now();
    for link in links.iter_mut() {
        link.beat(timing, now);
        // That a rank is gone is for the next operation to find, which can say so.
        let _ = link.drain();
    }
    if links.iter().all(Link::is_drained) { timing.beat / 2 } else { BACKLOG.min(timing.beat / 2) }
}
