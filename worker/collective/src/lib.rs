//! The ranks of a gang sum their gradients over TCP, directly between each other.
//!
//! A full mesh of connections; rank 0 listens on the gang's rendezvous address and tells all where the others
//! are. Sums are made along one tree over logical replicas ([`muster_llm::parallel::tree`]), so they have the
//! same bits on every rank, in every run, for any number of ranks with any shares. Traffic is spread evenly:
//! each rank owns a slice of the vector and sums it for all. A rank of another job, another formation, or no
//! rank at all is turned away with a reason.
//!
//! Operations go in step: all ranks call the same ones in the same order, but for a late rank in DiLoCo's
//! rounds. Each runs on the caller's thread; a second thread only beats while the caller computes. Memory:
//! one chunk (256 KiB) for each part that another rank brings, besides what the caller gives; frames have at
//! most 1 MiB, and what nobody is ready for stays in the sender's memory.
//!
//! **Invariant.** A rank that dies or falls silent is an error for all others within the timeouts of
//! [`Timing`]: they end, and the scheduler forms the gang again.
#![warn(missing_docs)]

mod beat;
mod drive;
mod form;
mod frame;
mod greet;
mod link;
pub mod loader;
mod plan;
mod reduce;
mod rounds;
mod share;
#[cfg(test)]
mod tests;

pub use rounds::{Gathering, Outcome};

use drive::{Fault, drive};
use link::Link;
use muster_llm::parallel::{Partial, Tree, tree};
use reduce::AllReduce;
use rounds::{Contribute, Gather, Publish};
use serde::{Deserialize, Serialize};
use share::Share;
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

/// Most ranks of a gang: each has a connection to each.
const WORLD_MAX: u32 = 256;

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
        Timing {
            join: Duration::from_secs(60),
            silence: Duration::from_secs(10),
            beat: Duration::from_secs(2),
        }
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
    #[error(
        "gather the gang on {address} within {waited_s} s: ranks {missing:?} of {world} did not come{turned_away}"
    )]
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
    /// What the caller gives, or what all give together, can't be summed or shared.
    #[error("sum over the gang: {0}")]
    Unfit(String),
    /// The system can't wait for bytes, or start a thread.
    #[error("wait for the gang: {0}")]
    Poll(io::Error),
    /// It broke before.
    #[error("use a gang that has broken before")]
    Broken,
    /// A rank sent something else than all others.
    #[error("agree with rank {rank}: {reason}")]
    Disagrees {
        /// Which.
        rank: u32,
        /// How.
        reason: String,
    },
}

/// Numbers that are summed together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Many: gradients.
    pub vector: Vec<f32>,
    /// A few beside them: losses, counts.
    pub scalars: Vec<f64>,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        tree::add(&mut self.vector, &other.vector);
        self.scalars.iter_mut().zip(&other.scalars).for_each(|(sum, other)| *sum += other);
    }
}

/// A gang that has come together.
#[derive(Debug)]
pub struct Gang {
    rank: u32,
    world: u32,
    timing: Timing,
    /// One to each other rank, in their order; none once it has broken.
    links: Arc<Mutex<Vec<Link>>>,
    /// Operations so far, so that ranks that are not in step are noticed.
    operations: u32,
    broken: bool,
    /// In rank 0, of the round that closed last: the links that wait for its outcome.
    punctual: Vec<bool>,
    /// Dropped with the gang: the beating thread ends.
    _beating: Option<Sender<()>>,
}

impl Gang {
    /// Brings the gang together: rank 0 listens at `rendezvous` (`host:port`), the others call it.
    ///
    /// # Errors
    /// When not all ranks come in time.
    pub fn form(member: &Member, rendezvous: &str, timing: Timing) -> Result<Gang, Error> {
        if member.world == 0 || member.rank >= member.world || member.world > WORLD_MAX {
            return Err(Error::Rendezvous(format!(
                "rank {} of {} ranks, of which there may be {WORLD_MAX}",
                member.rank, member.world
            )));
        }
        if member.world == 1 {
            return Ok(Gang::alone());
        }
        let links = Arc::new(Mutex::new(form::form(member, rendezvous, timing)?));
        let beating = beat::start(Arc::downgrade(&links), timing).map_err(Error::Poll)?;
        let (rank, world) = (member.rank, member.world);
        Ok(Gang {
            rank,
            world,
            timing,
            links,
            operations: 0,
            broken: false,
            punctual: Vec::new(),
            _beating: Some(beating),
        })
    }

    /// A gang of one.
    pub fn alone() -> Gang {
        let (links, timing) = (Arc::default(), Timing::default());
        Gang {
            rank: 0,
            world: 1,
            timing,
            links,
            operations: 0,
            broken: false,
            punctual: Vec::new(),
            _beating: None,
        }
    }

    /// The sums over all `replicas`, of which this rank brings `partials` (what [`tree::sum`] leaves of its
    /// range): the same bits everywhere.
    ///
    /// The vector of the first partial sum is used for the result.
    ///
    /// # Errors
    /// When a rank is gone, lengths differ, or the ranks' shares together are not all replicas in order of
    /// rank.
    pub fn all_reduce(&mut self, replicas: usize, partials: Vec<Partial<Sums>>) -> Result<Sums, Error> {
        if self.world == 1 {
            let mut whole = Tree::new(replicas);
            let unfit = |e: muster_llm::parallel::Error| Error::Unfit(e.to_string());
            for partial in partials {
                whole.push(partial, Sums::add).map_err(unfit)?;
            }
            return whole.total().map_err(unfit);
        }
        let (rank, world) = (self.rank as usize, self.world as usize);
        self.operate(|links, timing, tag| {
            let mut exchange = AllReduce::new(tag, rank, world, replicas, partials)?;
            let plan = reduce::announce(&exchange);
            enqueue(links, |_| Some(plan.clone()))?;
            drive(links, timing, &mut exchange)?;
            Ok(exchange.into_sums())
        })
    }

    /// The bytes of all ranks, in order of rank; waits for all.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn all_gather(&mut self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Error> {
        let rank = self.rank as usize;
        let own = Arc::new(bytes);
        let mut all = self.operate(|links, timing, tag| {
            enqueue(links, |_| Some(Share::message(tag, Arc::clone(&own))))?;
            let mut exchange = Share::new(tag, links.iter().map(|_| true));
            drive(links, timing, &mut exchange)?;
            Ok(exchange.into_bytes())
        })?;
        all.insert(rank, Arc::unwrap_or_clone(own));
        Ok(all)
    }

    /// Rank 0's `bytes`, for all; what the others give is not looked at.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn from_rank_0(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        let first = self.rank == 0;
        let own = Arc::new(bytes);
        let from = self.operate(|links, timing, tag| {
            enqueue(links, |_| first.then(|| Share::message(tag, Arc::clone(&own))))?;
            let mut exchange = Share::new(tag, links.iter().map(|link| link.peer() == 0));
            drive(links, timing, &mut exchange)?;
            Ok(exchange.into_bytes().into_iter().next())
        })?;
        Ok(if first { Arc::unwrap_or_clone(own) } else { from.unwrap_or_default() })
    }

    /// Makes sure that all ranks hold the same `bytes` (a hash of their weights, say), and waits for all.
    ///
    /// # Errors
    /// When a rank is gone, or holds others.
    pub fn agree(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let all = self.all_gather(bytes.to_vec())?;
        match (0..).zip(&all).find(|(_, theirs)| **theirs != all[0]) {
            None => Ok(()),
            Some((rank, _)) => {
                Err(Error::Disagrees { rank, reason: "it holds other weights than rank 0".to_owned() })
            }
        }
    }

    /// As rank 0, in a round of DiLoCo: the contributions by replica, once all are there, or once the time is
    /// up and enough are. What comes later for this round is thrown away. [`Gang::publish`] must follow.
    ///
    /// # Errors
    /// When a rank is gone, or contributes for a replica that there is not, or twice.
    pub fn gather(
        &mut self,
        round: u32,
        rule: Gathering,
        own: Vec<(u32, Vec<u8>)>,
    ) -> Result<BTreeMap<u32, Vec<u8>>, Error> {
        self.only(self.rank == 0, "gather")?;
        let mut punctual = Vec::new();
        let contributions = self.run(|links, timing| {
            let mut exchange = Gather::new(round, rule, own);
            drive(links, timing, &mut exchange)?;
            links.iter_mut().for_each(|link| link.fence(round));
            punctual = vec![false; links.len()];
            exchange.punctual().into_iter().for_each(|place| punctual[place] = true);
            Ok(exchange.into_contributions())
        })?;
        self.punctual = punctual;
        Ok(contributions)
    }

    /// As rank 0: tells all what came of the round that was gathered. Ranks that are late find it when they
    /// come.
    ///
    /// # Errors
    /// When a rank is gone, or so late that too many outcomes wait for it.
    pub fn publish(&mut self, round: u32, outcome: &Outcome) -> Result<(), Error> {
        self.only(self.rank == 0, "publish")?;
        let mut punctual = std::mem::take(&mut self.punctual);
        self.run(|links, timing| {
            punctual.resize(links.len(), false);
            let message = outcome.message(round);
            enqueue(links, |_| Some(message.clone()))?;
            drive(links, timing, &mut Publish { punctual })
        })
    }

    /// As another rank: contributes to a round for some replicas, and gives what came of it. Whoever is not
    /// in [`Outcome::merged`] was late, and goes on from the outcome like all.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn contribute(&mut self, round: u32, own: Vec<(u32, Vec<u8>)>) -> Result<Outcome, Error> {
        self.only(self.rank != 0, "contribute")?;
        let outcome = self.run(|links, timing| {
            let mut exchange = Contribute::new(round, own);
            drive(links, timing, &mut exchange)?;
            Ok(exchange.into_outcome())
        })?;
        outcome.ok_or(Error::Broken)
    }

    /// As another rank: the outcome of `round`, if it has been published already, which means that this rank
    /// is late and need not finish its work. Waits for nothing. After `Some`, the round is over:
    /// [`Gang::contribute`] is not called for it.
    ///
    /// # Errors
    /// When rank 0 is gone.
    pub fn closed(&mut self, round: u32) -> Result<Option<Outcome>, Error> {
        self.only(self.rank != 0, "look for an outcome")?;
        self.run(|links, timing| {
            let mut exchange = Contribute::new(round, Vec::new());
            if let Some(link) = links.first_mut()
                && let Err(fault) = exchange.look(link)
            {
                return Err(fault.of(link, timing));
            }
            Ok(exchange.into_outcome())
        })
    }

    fn only(&self, may: bool, what: &str) -> Result<(), Error> {
        if may { Ok(()) } else { Err(Error::Unfit(format!("rank {} may not {what}", self.rank))) }
    }

    /// Does what all ranks do in step.
    fn operate<T>(
        &mut self,
        work: impl FnOnce(&mut [Link], Timing, u32) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let tag = self.operations;
        self.operations = tag.wrapping_add(1);
        self.run(|links, timing| work(links, timing, tag))
    }

    /// Does something with the links; after an error there are none, so that all others notice.
    fn run<T>(&mut self, work: impl FnOnce(&mut [Link], Timing) -> Result<T, Error>) -> Result<T, Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut links, self.timing);
        if let Err(error) = &done {
            self.broken = true;
            let reason = error.to_string();
            links.iter_mut().for_each(|link| link.farewell(&reason));
            links.clear();
        }
        done
    }
}

/// Puts a message on each link for which there is one.
fn enqueue(links: &mut [Link], message: impl Fn(&Link) -> Option<link::Queued>) -> Result<(), Error> {
    for link in links {
        if let Some(message) = message(link)
            && !link.enqueue(message)
        {
            return Err(Fault::Disagrees(format!("it has left {} messages unread", link::QUEUED_MAX))
                .of(link, Timing::default()));
        }
    }
    Ok(())
}
