//! Heartbeats while a rank computes: a thread that sends them between operations, and drains the queues of
//! late ranks.

use super::connection::Connection;
use super::timeouts::Timeouts;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, TryLockError, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

/// How often queues are drained while one is not empty.
const BACKLOG_INTERVAL: Duration = Duration::from_millis(20);

/// Starts the thread, which ends when the returned sender is dropped.
pub fn start(connections: Weak<Mutex<Vec<Connection>>>, timeouts: Timeouts) -> io::Result<Sender<()>> {
    let (running, ended) = mpsc::channel::<()>();
    thread::Builder::new().name("rank-heartbeat".to_owned()).spawn(move || {
        let mut pause = timeouts.heartbeat_interval / 2;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(pause) {
            let Some(connections) = connections.upgrade() else { return };
            pause = match connections.try_lock() {
                Ok(mut connections) => send_heartbeats(&mut connections, timeouts),
                // An operation is running, and sends heartbeats itself.
                Err(TryLockError::WouldBlock) => timeouts.heartbeat_interval / 2,
                Err(TryLockError::Poisoned(_)) => return,
            };
        }
    })?;
    Ok(running)
}

/// Sends what is due on all connections; returns how long to wait until the next call.
fn send_heartbeats(connections: &mut [Connection], timeouts: Timeouts) -> Duration {
    let now = Instant::now();
    for connection in connections.iter_mut() {
        connection.heartbeat(timeouts, now);
        // A lost rank is found by the next operation, which can return the error.
        let _ = connection.drain();
    }
    if connections.iter().all(Connection::is_drained) {
        timeouts.heartbeat_interval / 2
    } else {
        BACKLOG_INTERVAL.min(timeouts.heartbeat_interval / 2)
    }
}
