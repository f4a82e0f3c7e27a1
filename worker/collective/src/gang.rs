//! A formed gang: the operations that its ranks call together.

use super::all_reduce::{self, AllReduce};
use super::connection::{Connection, QUEUED_MAX, QueuedMessage};
use super::error::Error;
use super::gather::GatherBytes;
use super::member::{Member, WORLD_MAX};
use super::poll_loop::{ExchangeError, run_exchange};
use super::rounds::{ContributeRound, GatherRound, PublishRound, RoundOutcome, RoundQuorum};
use super::sums::Sums;
use super::timeouts::Timeouts;
use super::{heartbeat, rendezvous};
use muster_llm::parallel::{Partial, Tree};
use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// One rank's end of a formed gang.
#[derive(Debug)]
pub struct Gang {
    rank: u32,
    world: u32,
    timeouts: Timeouts,
    /// One to each other rank, in order of rank; empty once the gang has broken.
    pub(crate) connections: Arc<Mutex<Vec<Connection>>>,
    /// Operations so far: each has its number as a tag, so that ranks that call different ones are noticed.
    operations: u32,
    broken: bool,
    /// On rank 0, by connection: whether it contributed to the round that closed last, and so waits for the
    /// outcome.
    contributors: Vec<bool>,
    /// Dropped with the gang, which ends the heartbeat thread.
    _heartbeats: Option<Sender<()>>,
}

impl Gang {
    /// Joins the other ranks: rank 0 listens at `address` (`host:port`), the others connect to it.
    ///
    /// # Errors
    /// When not all ranks join in time.
    pub fn join(member: &Member, address: &str, timeouts: Timeouts) -> Result<Gang, Error> {
        if member.world == 0 || member.rank >= member.world || member.world > WORLD_MAX {
            return Err(Error::Rendezvous(format!(
                "rank {} of {} ranks, of which there may be {WORLD_MAX}",
                member.rank, member.world
            )));
        }
        if member.world == 1 {
            return Ok(Gang::single());
        }
        let connections = Arc::new(Mutex::new(rendezvous::connect_all(member, address, timeouts)?));
        let heartbeats = heartbeat::start(Arc::downgrade(&connections), timeouts).map_err(Error::Poll)?;
        let (rank, world) = (member.rank, member.world);
        Ok(Gang {
            rank,
            world,
            timeouts,
            connections,
            operations: 0,
            broken: false,
            contributors: Vec::new(),
            _heartbeats: Some(heartbeats),
        })
    }

    /// A gang of one rank.
    pub fn single() -> Gang {
        let (connections, timeouts) = (Arc::default(), Timeouts::default());
        Gang {
            rank: 0,
            world: 1,
            timeouts,
            connections,
            operations: 0,
            broken: false,
            contributors: Vec::new(),
            _heartbeats: None,
        }
    }

    /// The sums over all `replicas`, with the same bits on every rank. This rank passes `partials`: what
    /// [`muster_llm::parallel::tree::sum`] leaves of its range of replicas. The result reuses the vector of
    /// the first.
    ///
    /// # Errors
    /// When a rank is lost, lengths differ, or the ranks' ranges together are not all replicas in order of
    /// rank.
    pub fn all_reduce(&mut self, replicas: usize, partials: Vec<Partial<Sums>>) -> Result<Sums, Error> {
        if self.world == 1 {
            let mut whole = Tree::new(replicas);
            let invalid = |e: muster_llm::parallel::Error| Error::InvalidInput(e.to_string());
            for partial in partials {
                whole.push(partial, Sums::add).map_err(invalid)?;
            }
            return whole.total().map_err(invalid);
        }
        let (rank, world) = (self.rank as usize, self.world as usize);
        self.operate(|connections, timeouts, tag| {
            let mut exchange = AllReduce::new(tag, rank, world, replicas, partials)?;
            let plan = all_reduce::announce(&exchange);
            enqueue(connections, |_| Some(plan.clone()))?;
            run_exchange(connections, timeouts, &mut exchange)?;
            Ok(exchange.into_sums())
        })
    }

    /// The bytes of every rank, in order of rank.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn all_gather(&mut self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Error> {
        let rank = self.rank as usize;
        let own = Arc::new(bytes);
        let mut all = self.operate(|connections, timeouts, tag| {
            enqueue(connections, |_| Some(GatherBytes::message(tag, Arc::clone(&own))))?;
            let mut exchange = GatherBytes::new(tag, connections.iter().map(|_| true));
            run_exchange(connections, timeouts, &mut exchange)?;
            Ok(exchange.into_bytes())
        })?;
        all.insert(rank, Arc::unwrap_or_clone(own));
        Ok(all)
    }

    /// Rank 0's `bytes`, on every rank; those of the others are ignored.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn broadcast(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        let first = self.rank == 0;
        let own = Arc::new(bytes);
        let from = self.operate(|connections, timeouts, tag| {
            enqueue(connections, |_| first.then(|| GatherBytes::message(tag, Arc::clone(&own))))?;
            let mut exchange =
                GatherBytes::new(tag, connections.iter().map(|connection| connection.peer() == 0));
            run_exchange(connections, timeouts, &mut exchange)?;
            Ok(exchange.into_bytes().into_iter().next())
        })?;
        Ok(if first { Arc::unwrap_or_clone(own) } else { from.unwrap_or_default() })
    }

    /// Checks that all ranks pass the same `bytes`: the hash of their weights.
    ///
    /// # Errors
    /// When a rank is lost, or passes others.
    pub fn verify_equal(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let all = self.all_gather(bytes.to_vec())?;
        match (0..).zip(&all).find(|(_, theirs)| **theirs != all[0]) {
            None => Ok(()),
            Some((rank, _)) => {
                Err(Error::Mismatch { rank, reason: "it holds other weights than rank 0".to_owned() })
            }
        }
    }

    /// As rank 0, in a round of DiLoCo: the contributions by replica, as soon as all have arrived, or at the
    /// deadline if they are enough. Contributions that arrive later are dropped. [`Gang::publish`] must
    /// follow.
    ///
    /// # Errors
    /// When a rank is lost, or contributes for an unknown replica, or twice for one.
    pub fn gather(
        &mut self,
        round: u32,
        quorum: RoundQuorum,
        own: Vec<(u32, Vec<u8>)>,
    ) -> Result<BTreeMap<u32, Vec<u8>>, Error> {
        self.check_role(self.rank == 0, "gather")?;
        let mut contributors = Vec::new();
        let contributions = self.run(|connections, timeouts| {
            let mut exchange = GatherRound::new(round, quorum, own);
            run_exchange(connections, timeouts, &mut exchange)?;
            connections.iter_mut().for_each(|connection| connection.fence(round));
            contributors = vec![false; connections.len()];
            exchange.contributors().into_iter().for_each(|index| contributors[index] = true);
            Ok(exchange.into_contributions())
        })?;
        self.contributors = contributors;
        Ok(contributions)
    }

    /// As rank 0: sends the outcome of the gathered round to all, and waits until the contributors have it.
    /// Late ranks find it when they read on.
    ///
    /// # Errors
    /// When a rank is lost, or too many outcomes are queued for it.
    pub fn publish(&mut self, round: u32, outcome: &RoundOutcome) -> Result<(), Error> {
        self.check_role(self.rank == 0, "publish")?;
        let mut contributors = std::mem::take(&mut self.contributors);
        self.run(|connections, timeouts| {
            contributors.resize(connections.len(), false);
            let message = outcome.message(round);
            enqueue(connections, |_| Some(message.clone()))?;
            run_exchange(connections, timeouts, &mut PublishRound { contributors })
        })
    }

    /// As another rank: contributes to a round for some replicas, and waits for the outcome. A replica that
    /// is not in [`RoundOutcome::merged`] was late, and continues from the outcome like all others.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn contribute(&mut self, round: u32, own: Vec<(u32, Vec<u8>)>) -> Result<RoundOutcome, Error> {
        self.check_role(self.rank != 0, "contribute")?;
        let outcome = self.run(|connections, timeouts| {
            let mut exchange = ContributeRound::new(round, own);
            run_exchange(connections, timeouts, &mut exchange)?;
            Ok(exchange.into_outcome())
        })?;
        outcome.ok_or(Error::Broken)
    }

    /// As another rank: the outcome of `round` if it has arrived, without waiting. `Some` means that this
    /// rank is late, and need not finish the round nor call [`Gang::contribute`] for it.
    ///
    /// # Errors
    /// When rank 0 is lost.
    pub fn poll_outcome(&mut self, round: u32) -> Result<Option<RoundOutcome>, Error> {
        self.check_role(self.rank != 0, "look for an outcome")?;
        self.run(|connections, timeouts| {
            let mut exchange = ContributeRound::new(round, Vec::new());
            if let Some(connection) = connections.first_mut()
                && let Err(error) = exchange.poll(connection)
            {
                return Err(error.at(connection, timeouts));
            }
            Ok(exchange.into_outcome())
        })
    }

    fn check_role(&self, may: bool, what: &str) -> Result<(), Error> {
        if may { Ok(()) } else { Err(Error::InvalidInput(format!("rank {} may not {what}", self.rank))) }
    }

    /// Runs an operation that all ranks call in the same order, under the next tag.
    fn operate<T>(
        &mut self,
        work: impl FnOnce(&mut [Connection], Timeouts, u32) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let tag = self.operations;
        self.operations = tag.wrapping_add(1);
        self.run(|connections, timeouts| work(connections, timeouts, tag))
    }

    /// Runs `work` on the connections. After an error they are closed, so that all other ranks notice.
    fn run<T>(
        &mut self,
        work: impl FnOnce(&mut [Connection], Timeouts) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut connections, self.timeouts);
        if let Err(error) = &done {
            self.broken = true;
            let reason = error.to_string();
            connections.iter_mut().for_each(|connection| connection.send_gave_up(&reason));
            connections.clear();
        }
        done
    }
}

/// Queues a message on each connection for which `message` gives one.
fn enqueue(
    connections: &mut [Connection],
    message: impl Fn(&Connection) -> Option<QueuedMessage>,
) -> Result<(), Error> {
    for connection in connections {
        if let Some(message) = message(connection)
            && !connection.enqueue(message)
        {
            return Err(ExchangeError::Mismatch(format!("it has left {} messages unread", QUEUED_MAX))
                .at(connection, Timeouts::default()));
        }
    }
    Ok(())
}
