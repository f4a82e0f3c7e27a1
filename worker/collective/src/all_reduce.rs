//! The all-reduce, as a reduce-scatter and an all-gather: every rank owns a slice of the vector, receives the
//! others' parts of it, sums them along the tree, and sends the sum to all.
//!
//! It works chunk by chunk: while one is summed the next ones are in the kernel's buffers, and each summed
//! chunk is sent while it is still in the cache. Numbers are sent and received in place; only the others'
//! parts of the own slice pass through one chunk of memory each. A rank sends and receives `2 (world - 1) /
//! world` times the vector (Patarasuk and Yuan 2009), more if its range of replicas is not a node of the
//! tree.

use super::connection::{Connection, QueuedMessage};
use super::error::Error;
use super::frame::{BODY_BYTES_MAX, FrameHeader, Kind};
use super::poll_loop::{Exchange, ExchangeError};
use super::reduce_plan::{ReduceOrder, ReducePlan};
use super::sums::Sums;
use muster_llm::parallel::{Partial, tree};
use std::ops::Range;
use std::sync::Arc;

/// Numbers of a chunk: 256 KiB, which stay in a core's cache from the wire to the sum and back.
pub const CHUNK: usize = 64 << 10;
/// Slices begin at multiples of this: a cache line of numbers.
const ALIGNMENT: usize = 16;

const _: () = assert!(CHUNK * size_of::<f32>() <= BODY_BYTES_MAX && CHUNK.is_multiple_of(ALIGNMENT));
const _: () = assert!(cfg!(target_endian = "little"), "numbers go over the wire as they lie in memory");

/// The slice that `rank` owns of a vector of `numbers`.
pub fn slice(numbers: usize, rank: usize, world: usize) -> Range<usize> {
    let each = numbers.div_ceil(world).next_multiple_of(ALIGNMENT);
    (rank * each).min(numbers)..((rank + 1) * each).min(numbers)
}

/// The chunk `index` of a slice.
fn chunk(slice: &Range<usize>, index: usize) -> Range<usize> {
    let start = slice.start + index * CHUNK;
    start..(start + CHUNK).min(slice.end)
}

fn chunks(slice: &Range<usize>) -> usize {
    slice.len().div_ceil(CHUNK)
}

/// A frame that is partly sent to a peer.
#[derive(Clone, Copy, Debug)]
enum Sending {
    /// A chunk of one of our parts, for the peer's slice: the chunk times the number of our parts, plus the
    /// part.
    Part(usize),
    /// The sum of this chunk of our slice.
    Sum(usize),
}

#[derive(Debug)]
struct Peer {
    rank: usize,
    slice: Range<usize>,
    plan: Option<ReducePlan>,
    sending: Option<Sending>,
    /// Frames sent so far.
    parts_sent: usize,
    sums_sent: usize,
    /// Frames received so far.
    parts_received: usize,
    sums_received: usize,
    /// For each of its parts: the chunk that is received.
    slots: Vec<Vec<f32>>,
}

/// One all-reduce.
#[derive(Debug)]
pub struct AllReduce {
    tag: u32,
    own: Vec<Partial<Sums>>,
    plan: ReducePlan,
    slice: Range<usize>,
    rank: usize,
    peers: Vec<Peer>,
    /// Known once all plans are.
    order: Option<ReduceOrder>,
    /// How many chunks of our slice are summed.
    summed: usize,
}

impl AllReduce {
    /// Sums `partials` over `replicas`, as `rank` of `world`.
    pub fn new(
        tag: u32,
        rank: usize,
        world: usize,
        replicas: usize,
        partials: Vec<Partial<Sums>>,
    ) -> Result<AllReduce, Error> {
        let plan = ReducePlan::new(replicas, &partials).map_err(Error::InvalidInput)?;
        let numbers = plan.numbers as usize;
        let peer = |rank| Peer {
            rank,
            slice: slice(numbers, rank, world),
            plan: None,
            sending: None,
            parts_sent: 0,
            sums_sent: 0,
            parts_received: 0,
            sums_received: 0,
            slots: Vec::new(),
        };
        let peers = (0..world).filter(|other| *other != rank).map(peer).collect();
        Ok(AllReduce {
            tag,
            own: partials,
            plan,
            slice: slice(numbers, rank, world),
            rank,
            peers,
            order: None,
            summed: 0,
        })
    }

    /// The sums, once the exchange is done.
    pub fn into_sums(self) -> Sums {
        let scalars = self.order.map(|order| order.scalars).unwrap_or_default();
        let vector = self.own.into_iter().next().map(|partial| partial.values.vector).unwrap_or_default();
        Sums { vector, scalars }
    }

    fn parts_in(&self, index: usize) -> usize {
        self.peers[index].plan.as_ref().map_or(usize::MAX, |plan| plan.parts.len() * chunks(&self.slice))
    }

    fn parts_out(&self, index: usize) -> usize {
        self.own.len() * chunks(&self.peers[index].slice)
    }

    /// Whether more must come from a peer.
    fn expects(&self, index: usize) -> bool {
        let peer = &self.peers[index];
        peer.plan.is_none()
            || peer.parts_received < self.parts_in(index)
            || peer.sums_received < chunks(&peer.slice)
    }

    /// Whether there is room for its next part: only for those of the chunk that is summed next.
    fn has_room(&self, index: usize) -> bool {
        let peer = &self.peers[index];
        peer.plan.as_ref().is_some_and(|plan| peer.parts_received < (self.summed + 1) * plan.parts.len())
    }

    /// Determines the order once all plans are known.
    fn determine_order(&mut self) -> Result<(), ExchangeError> {
        let mut plans: Vec<&ReducePlan> = self.peers.iter().filter_map(|peer| peer.plan.as_ref()).collect();
        if plans.len() < self.peers.len() {
            return Ok(());
        }
        plans.insert(self.rank, &self.plan);
        let home = plans[..self.rank].iter().map(|plan| plan.parts.len()).sum();
        let order = ReduceOrder::new(&plans, home)
            .map_err(|e| ExchangeError::Other(Error::InvalidInput(e.to_string())))?;
        self.order = Some(order);
        Ok(())
    }

    /// Sums every chunk of which all parts have arrived; returns whether there was one.
    fn sum(&mut self) -> bool {
        let Some(order) = &self.order else { return false };
        let mut any = false;
        while self.summed < chunks(&self.slice) {
            let range = chunk(&self.slice, self.summed);
            let ready = |peer: &Peer| {
                peer.plan
                    .as_ref()
                    .is_some_and(|plan| peer.parts_received == (self.summed + 1) * plan.parts.len())
            };
            if !self.peers.iter().all(ready) {
                break;
            }
            let mut parts: Vec<&mut [f32]> = Vec::new();
            let mut own = Some(&mut self.own);
            for peer in &mut self.peers {
                if peer.rank > self.rank
                    && let Some(own) = own.take()
                {
                    parts.extend(own.iter_mut().map(|partial| &mut partial.values.vector[range.clone()]));
                }
                parts.extend(peer.slots.iter_mut().map(|slot| &mut slot[..range.len()]));
            }
            if let Some(own) = own.take() {
                parts.extend(own.iter_mut().map(|partial| &mut partial.values.vector[range.clone()]));
            }
            for (into, from) in &order.steps {
                let from = std::mem::take(&mut parts[*from]);
                tree::add(parts[*into], from);
            }
            // The sum is in our first part, from which it is sent.
            self.summed += 1;
            any = true;
        }
        any
    }

    /// Sends what it can to a peer.
    fn send(&mut self, index: usize, connection: &mut Connection) -> Result<bool, ExchangeError> {
        let mut any = false;
        while connection.is_drained() || self.peers[index].sending.is_some() {
            let (parts_out, summed) = (self.parts_out(index), self.summed);
            let peer = &mut self.peers[index];
            let fresh = peer.sending.is_none();
            let sending = match peer.sending {
                Some(sending) => sending,
                None if peer.sums_sent < summed => Sending::Sum(peer.sums_sent),
                None if peer.parts_sent < parts_out => Sending::Part(peer.parts_sent),
                None => break,
            };
            peer.sending = Some(sending);
            let (kind, part, range) = match sending {
                Sending::Sum(sum) => (Kind::Sum, 0, chunk(&self.slice, sum)),
                Sending::Part(part) => {
                    (Kind::Part, part % self.own.len(), chunk(&peer.slice, part / self.own.len()))
                }
            };
            let body: &[u8] = bytemuck::cast_slice(&self.own[part].values.vector[range]);
            if fresh {
                connection.start_frame(FrameHeader::new(kind, self.tag, false, body));
            }
            match connection.continue_write(body)? {
                None => break,
                Some(false) => any = true,
                Some(true) => {
                    any = true;
                    peer.sending = None;
                    match sending {
                        Sending::Sum(_) => peer.sums_sent += 1,
                        Sending::Part(_) => peer.parts_sent += 1,
                    }
                    // It is the turn of the other connections.
                    break;
                }
            }
        }
        Ok(any)
    }

    /// Receives what it can from a peer.
    fn receive(&mut self, index: usize, connection: &mut Connection) -> Result<bool, ExchangeError> {
        let mut any = false;
        while self.expects(index) {
            let Some(header) = connection.next_header()? else { break };
            if header.tag != self.tag {
                return Err(ExchangeError::Mismatch(format!(
                    "it sent {} of operation {} in operation {}",
                    header.kind.name(),
                    header.tag,
                    self.tag
                )));
            }
            let (parts_in, has_room) = (self.parts_in(index), self.has_room(index));
            let peer = &mut self.peers[index];
            match header.kind {
                Kind::Plan if peer.plan.is_none() => {
                    let Some((_, _, bytes)) = connection.next_message(BODY_BYTES_MAX)? else { break };
                    let plan = ReducePlan::decode(&bytes).map_err(ExchangeError::Mismatch)?;
                    if let Some(difference) = plan.difference(&self.plan) {
                        return Err(ExchangeError::Mismatch(difference));
                    }
                    peer.slots = vec![vec![0.0; CHUNK.min(self.slice.len())]; plan.parts.len()];
                    peer.plan = Some(plan);
                    self.determine_order()?;
                }
                Kind::Part if peer.parts_received < parts_in => {
                    if !has_room {
                        break;
                    }
                    let parts = peer.slots.len();
                    let length = chunk(&self.slice, peer.parts_received / parts).len();
                    check(header, length)?;
                    let slot = &mut peer.slots[peer.parts_received % parts][..length];
                    match connection.continue_read(bytemuck::cast_slice_mut(slot))? {
                        None => break,
                        Some(whole) => peer.parts_received += usize::from(whole),
                    }
                }
                Kind::Sum if peer.sums_received < chunks(&peer.slice) => {
                    let range = chunk(&peer.slice, peer.sums_received);
                    check(header, range.len())?;
                    if peer.parts_sent < (peer.sums_received + 1) * self.own.len() {
                        return Err(ExchangeError::Mismatch(
                            "it sent the sum of a chunk before it had all parts".to_owned(),
                        ));
                    }
                    match connection
                        .continue_read(bytemuck::cast_slice_mut(&mut self.own[0].values.vector[range]))?
                    {
                        None => break,
                        Some(whole) => peer.sums_received += usize::from(whole),
                    }
                }
                other => {
                    return Err(ExchangeError::Mismatch(format!(
                        "it sent {} at the wrong time",
                        other.name()
                    )));
                }
            }
            any = true;
        }
        Ok(any)
    }
}

fn check(header: FrameHeader, numbers: usize) -> Result<(), ExchangeError> {
    let expected = numbers * size_of::<f32>();
    if header.length == expected {
        return Ok(());
    }
    Err(ExchangeError::Mismatch(format!(
        "it sent {} of {} bytes instead of {expected}",
        header.kind.name(),
        header.length
    )))
}

impl Exchange for AllReduce {
    fn advance(&mut self, index: usize, connection: &mut Connection) -> Result<bool, ExchangeError> {
        let sent = self.send(index, connection)?;
        let received = self.receive(index, connection)?;
        let summed = self.sum();
        Ok(sent || received || summed)
    }

    fn awaits(&self, index: usize, connection: &Connection) -> bool {
        let stuck =
            connection.incoming_kind().is_some_and(|kind| kind == Kind::Part) && !self.has_room(index);
        self.expects(index) && !stuck
    }

    fn sends(&self, index: usize) -> bool {
        let peer = &self.peers[index];
        peer.sending.is_some() || peer.sums_sent < self.summed || peer.parts_sent < self.parts_out(index)
    }

    fn needs_drained(&self, _place: usize) -> bool {
        true
    }

    fn done(&self, connections: &[Connection]) -> bool {
        let all = (0..self.peers.len()).all(|index| !self.expects(index) && !self.sends(index));
        all && self.summed == chunks(&self.slice)
            && self.order.is_some()
            && connections.iter().all(Connection::is_drained)
    }
}

/// The plan, as the first message of an all-reduce on every connection.
pub fn announce(reduce: &AllReduce) -> QueuedMessage {
    QueuedMessage { kind: Kind::Plan, tag: reduce.tag, bytes: Arc::new(reduce.plan.encode()) }
}
