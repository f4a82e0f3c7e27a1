//! Checks that the log has a record of this attempt.

use super::error::Error;
use muster_attempt::Attempt;
use muster_protocol::ids::Digest;
use std::thread;
use std::time::Duration;

/// How often the log is read, and with which pause: a coordinator may be behind for a moment.
const READS_MAX: usize = 40;
const READ_INTERVAL: Duration = Duration::from_millis(250);

/// Waits until the log has a record. An attempt that has been superseded is answered like any other, but its
/// records don't count: what it wrote would be lost.
pub fn wait_for_record(attempt: &mut Attempt, key: &str, seq: u64, payload: Digest) -> Result<(), Error> {
    for _ in 0..READS_MAX {
        let found = attempt.progress(attempt.task(), key)?.into_iter().find(|record| record.key == key);
        match found {
            Some(record) if record.seq == seq && record.payload_hash == payload => return Ok(()),
            Some(record) if record.seq >= seq => {
                return Err(Error::Superseded { key: key.to_owned(), seq, found: record.seq });
            }
            // A leader that was deposed may not have it yet.
            Some(_) | None => thread::sleep(READ_INTERVAL),
        }
    }
    Err(Error::NotInLog { key: key.to_owned(), seq })
}
