//! The ranks of a gang sum their gradients over TCP, directly between each other.
//!
//! A star around rank 0, which listens on the gang's rendezvous address. Sums are made by an aligned binary tree in the order of ranks, so
//! they have the same bits on every rank and in every run; the cost of a star is that rank 0 carries all the traffic, which is right for the
//! few ranks of today. A rank of another job, another formation, or no rank at all is turned away with a reason.
//!
//! **Invariant.** A rank that dies or falls silent is an error for all others within the timeouts of [`Timing`]: they end, and the
//! scheduler forms the gang again.

mod form;
mod frame;
mod link;
mod sum;
#[cfg(test)]
mod tests;

pub use sum::tree_sum;

use frame::Frame;
use link::Link;
use serde::{Deserialize, Serialize};
use std::{io, time::Duration};

/// Which rank of which gang somebody is, and in which of its lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The cluster's name.
    pub cluster: String,
    /// The job.
    pub job: String,
    /// The stage of the job.
    pub stage: u16,
    /// Which life of the gang.
    pub formation: u32,
    /// Its place, from 0.
    pub rank: u32,
    /// How many there are.
    pub world: u32,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For all ranks to come together.
    pub join: Duration,
    /// For any sign of life of a rank.
    pub silence: Duration,
    /// Between two signs of life of our own.
    pub beat: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing { join: Duration::from_secs(60), silence: Duration::from_secs(10), beat: Duration::from_secs(2) }
    }
}

/// The gang could not come together, or broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The member or the address makes no sense.
    #[error("use the gang's rendezvous: {0}")]
    Rendezvous(String),
    /// Rank 0 can't listen.
    #[error("listen as rank 0 on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Rank 0 waited in vain.
    #[error("gather the gang on {address} within {waited_s} s: ranks {missing:?} of {world} did not come{turned_away}")]
    Missing {
        /// Where.
        address: String,
        /// How long.
        waited_s: u64,
        /// Who did not come.
        missing: Vec<u32>,
        /// How many ranks there are.
        world: u32,
        /// The last that was turned away, and why.
        turned_away: String,
    },
    /// Another rank could not join.
    #[error("join the gang at {address} within {waited_s} s: {reason}")]
    Join {
        /// Where.
        address: String,
        /// How long.
        waited_s: u64,
        /// What the last try met with.
        reason: String,
    },
    /// A rank is gone.
    #[error("hear from rank {rank}: {reason}")]
    Lost {
        /// Which.
        rank: u32,
        /// Why.
        reason: String,
    },
    /// A rank sent something else than all others.
    #[error("agree with rank {rank}: {reason}")]
    Disagrees {
        /// Which.
        rank: u32,
        /// How.
        reason: String,
    },
}

/// A gang that has come together.
#[derive(Debug)]
pub struct Gang {
    rank: u32,
    /// Rank 0 has one to each other rank, in their order; the others have one to rank 0.
    links: Vec<Link>,
}

impl Gang {
    /// Brings the gang together: rank 0 listens at `rendezvous` (`host:port`), the others call it.
    ///
    /// # Errors
    /// When not all ranks come in time.
    pub fn form(member: &Member, rendezvous: &str, timing: Timing) -> Result<Gang, Error> {
        if member.world == 0 || member.rank >= member.world {
            return Err(Error::Rendezvous(format!("rank {} of {} ranks", member.rank, member.world)));
        }
        let links = match (member.rank, member.world) {
            (_, 1) => Vec::new(),
            (0, _) => form::gather(member, rendezvous, timing)?,
            (_, _) => vec![form::join(member, rendezvous, timing)?],
        };
        Ok(Gang { rank: member.rank, links })
    }

    /// A gang of one.
    pub fn alone() -> Gang {
        Gang { rank: 0, links: Vec::new() }
    }

    /// Replaces `vector` and `scalars` with the sums over all ranks: the same bits everywhere.
    ///
    /// # Errors
    /// When a rank is gone, or its lengths differ.
    pub fn all_reduce(&mut self, vector: &mut Vec<f32>, scalars: &mut Vec<f64>) -> Result<(), Error> {
        if self.links.is_empty() {
            return Ok(());
        }
        let own = (std::mem::take(vector), std::mem::take(scalars));
        let lengths = (own.0.len(), own.1.len());
        if self.rank != 0 {
            let link = &mut self.links[0];
            link.send(&Frame::Sums(own.0, own.1))?;
            (*vector, *scalars) = sums(link, lengths)?;
            return Ok(());
        }
        let (mut vectors, mut small) = (vec![own.0], vec![own.1]);
        for link in &mut self.links {
            let (theirs, their_scalars) = sums(link, lengths)?;
            vectors.push(theirs);
            small.push(their_scalars);
        }
        let total = Frame::Sums(tree_sum(vectors), tree_sum(small));
        for link in &mut self.links {
            link.send(&total)?;
        }
        if let Frame::Sums(sum, small) = total {
            (*vector, *scalars) = (sum, small);
        }
        Ok(())
    }

    /// Rank 0's `bytes`, for all; what the others give is not looked at.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn from_rank_0(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        if self.rank != 0 {
            return blob(&mut self.links[0]);
        }
        let frame = Frame::Bytes(bytes);
        for link in &mut self.links {
            link.send(&frame)?;
        }
        match frame {
            Frame::Bytes(bytes) => Ok(bytes),
            Frame::Hello(_) | Frame::Welcome | Frame::Refused(_) | Frame::Beat | Frame::Sums(..) => Ok(Vec::new()),
        }
    }

    /// Makes sure that all ranks hold the same `bytes` (a hash of their weights, say), and waits for all.
    ///
    /// # Errors
    /// When a rank is gone, or holds others.
    pub fn agree(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.rank != 0 {
            self.links[0].send(&Frame::Bytes(bytes.to_vec()))?;
        } else {
            for link in &mut self.links {
                if blob(link)? != bytes {
                    return Err(Error::Disagrees { rank: link.peer(), reason: "it holds other weights than rank 0".to_owned() });
                }
            }
        }
        self.from_rank_0(bytes.to_vec()).map(drop)
    }
}

fn sums(link: &mut Link, lengths: (usize, usize)) -> Result<(Vec<f32>, Vec<f64>), Error> {
    match link.receive()? {
        Frame::Sums(vector, scalars) if (vector.len(), scalars.len()) == lengths => Ok((vector, scalars)),
        Frame::Sums(vector, scalars) => {
            let reason = format!("it sent {} numbers and {} scalars instead of {lengths:?}", vector.len(), scalars.len());
            Err(Error::Disagrees { rank: link.peer(), reason })
        }
        other @ (Frame::Hello(_) | Frame::Welcome | Frame::Refused(_) | Frame::Beat | Frame::Bytes(_)) => Err(unexpected(link, &other)),
    }
}

fn blob(link: &mut Link) -> Result<Vec<u8>, Error> {
    match link.receive()? {
        Frame::Bytes(bytes) => Ok(bytes),
        other @ (Frame::Hello(_) | Frame::Welcome | Frame::Refused(_) | Frame::Beat | Frame::Sums(..)) => Err(unexpected(link, &other)),
    }
}

fn unexpected(link: &Link, frame: &Frame) -> Error {
    Error::Disagrees { rank: link.peer(), reason: format!("it sent {} at the wrong time", frame.name()) }
}
