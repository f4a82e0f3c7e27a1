//! What ends a gang.

use super::timeouts::Timeouts;
use std::io;

/// The gang could not be formed, or broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The member or the rendezvous address is invalid.
    #[error("use the gang's rendezvous: {0}")]
    Rendezvous(String),
    /// Rank 0 can't listen.
    #[error("listen as rank 0 on {address}: {source}")]
    Listen {
        /// The rendezvous address.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// Some ranks did not join in time.
    #[error(
        "gather the gang on {address} within {waited_s} s: ranks {missing:?} of {world} did not come{turned_away}"
    )]
    Missing {
        /// Where this rank listened.
        address: String,
        /// Seconds waited.
        waited_s: u64,
        /// The ranks that did not join.
        missing: Vec<u32>,
        /// The number of ranks.
        world: u32,
        /// The last caller that was refused, and the reason; empty if none was.
        turned_away: String,
    },
    /// This rank could not join.
    #[error("join the gang at {address} within {waited_s} s: {reason}")]
    Join {
        /// The address that was called.
        address: String,
        /// Seconds waited.
        waited_s: u64,
        /// The failure of the last try.
        reason: String,
    },
    /// A rank died, fell silent or gave up.
    #[error("hear from rank {rank}: {reason}")]
    RankLost {
        /// The rank.
        rank: u32,
        /// What was noticed.
        reason: String,
    },
    /// The input of this call, or of all ranks together, can't be summed or shared.
    #[error("sum over the gang: {0}")]
    InvalidInput(String),
    /// `poll`, or the start of a thread, failed.
    #[error("wait for the gang: {0}")]
    Poll(io::Error),
    /// An earlier operation failed: the gang must be formed again.
    #[error("use a gang that has broken before")]
    Broken,
    /// A rank sent something that does not fit what the others sent.
    #[error("agree with rank {rank}: {reason}")]
    Mismatch {
        /// The rank.
        rank: u32,
        /// What differs.
        reason: String,
    },
}

impl Error {
    /// The connection to `rank` failed.
    pub(crate) fn rank_lost(rank: u32, error: &io::Error, timeouts: Timeouts) -> Error {
        let reason = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("no sign of life for {:.1} s", timeouts.silence.as_secs_f64())
            }
            io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            _ => error.to_string(),
        };
        Error::RankLost { rank, reason }
    }
}
