//! The all-reduce: every rank owns a slice of the vector, gets the others' parts of it, sums them along the
//! tree, and sends the sum to all.
//!
//! Chunk by chunk: while one is summed the next ones are in the kernel's buffers, and each summed chunk goes
//! out while it is still in the cache. Numbers are sent from where they lie and received where they belong;
//! only others' parts of the own slice pass through one chunk of memory each. A rank sends and receives `2
//! (world - 1) / world` times the vector, more if its share is no node of the tree.

use super::drive::{Exchange, Fault};
use super::frame::{BODY_BYTES_MAX, Head, Kind};
use super::link::{Link, Queued};
use super::plan::{Plan, Recipe};
use super::{Error, Sums};
use muster_llm::parallel::{Partial, tree};
use std::ops::Range;
use std::sync::Arc;

/// Numbers of a chunk: small enough to stay in a core's cache from the wire to the sum and back.
pub const CHUNK: usize = 64 << 10;
/// Slices begin at multiples of this many numbers: a cache line.
const ALIGNMENT: usize = 16;

const _: () = assert!(CHUNK * size_of::<f32>() <= BODY_BYTES_MAX && CHUNK.is_multiple_of(ALIGNMENT));
const _: () = assert!(cfg!(target_endian = "little"), "numbers go over the wire as they lie in memory");

/// The slice of rank `rank` of `world` of a vector.
pub fn slice(numbers: usize, rank: usize, world: usize) -> Range<usize> {
    let each = numbers.div_ceil(world).next_multiple_of(ALIGNMENT);
    (rank * each).min(numbers)..((rank + 1) * each).min(numbers)
}

/// The `place`th chunk of a slice.
fn chunk(slice: &Range<usize>, place: usize) -> Range<usize> {
    let start = slice.start + place * CHUNK;
    start..(start + CHUNK).min(slice.end)
}

fn chunks(slice: &Range<usize>) -> usize {
    slice.len().div_ceil(CHUNK)
}

/// A frame that is on its way to a peer.
#[derive(Clone, Copy, Debug)]
enum Sending {
    /// The part at this place: chunk times parts plus part.
    Part(usize),
    /// The sum of this chunk of our slice.
    Sum(usize),
}

#[derive(Debug)]
struct Peer {
    rank: usize,
    slice: Range<usize>,
    plan: Option<Plan>,
    sending: Option<Sending>,
    /// Frames sent.
    parts_sent: usize,
    sums_sent: usize,
    /// Frames received.
    parts_got: usize,
    sums_got: usize,
    /// One chunk for each of its parts.
    slots: Vec<Vec<f32>>,
}

/// One all-reduce.
#[derive(Debug)]
pub struct AllReduce {
    tag: u32,
    own: Vec<Partial<Sums>>,
    plan: Plan,
    slice: Range<usize>,
    rank: usize,
    peers: Vec<Peer>,
    /// Known once every plan is.
    recipe: Option<Recipe>,
    /// Chunks of our slice that are summed.
    summed: usize,
}

impl AllReduce {
    /// One of `partials` over `replicas`, as rank `rank` of `world`.
    pub fn new(
        tag: u32,
        rank: usize,
        world: usize,
        replicas: usize,
        partials: Vec<Partial<Sums>>,
    ) -> Result<AllReduce, Error> {
        let plan = Plan::of(replicas, &partials).map_err(Error::Unfit)?;
        let numbers = plan.numbers as usize;
        let peer = |rank| Peer {
            rank,
            slice: slice(numbers, rank, world),
            plan: None,
            sending: None,
            parts_sent: 0,
            sums_sent: 0,
            parts_got: 0,
            sums_got: 0,
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
            recipe: None,
            summed: 0,
        })
    }

    /// The sums, once all is done.
    pub fn into_sums(self) -> Sums {
        let scalars = self.recipe.map(|recipe| recipe.scalars).unwrap_or_default();
        let vector = self.own.into_iter().next().map(|partial| partial.values.vector).unwrap_or_default();
        Sums { vector, scalars }
    }

    fn parts_in(&self, place: usize) -> usize {
        self.peers[place].plan.as_ref().map_or(usize::MAX, |plan| plan.parts.len() * chunks(&self.slice))
    }

    fn parts_out(&self, place: usize) -> usize {
        self.own.len() * chunks(&self.peers[place].slice)
    }

    /// Whether more must come from a peer.
    fn expects(&self, place: usize) -> bool {
        let peer = &self.peers[place];
        peer.plan.is_none() || peer.parts_got < self.parts_in(place) || peer.sums_got < chunks(&peer.slice)
    }

    /// Whether there is room for its next part: those of the chunk that is summed next.
    fn has_room(&self, place: usize) -> bool {
        let peer = &self.peers[place];
        peer.plan.as_ref().is_some_and(|plan| peer.parts_got < (self.summed + 1) * plan.parts.len())
    }

    /// Makes the recipe once all plans are known.
    fn settle(&mut self) -> Result<(), Fault> {
        let mut plans: Vec<&Plan> = self.peers.iter().filter_map(|peer| peer.plan.as_ref()).collect();
        if plans.len() < self.peers.len() {
            return Ok(());
        }
        plans.insert(self.rank, &self.plan);
        let home = plans[..self.rank].iter().map(|plan| plan.parts.len()).sum();
        let recipe = Recipe::of(&plans, home).map_err(|e| Fault::Other(Error::Unfit(e.to_string())))?;
        self.recipe = Some(recipe);
        Ok(())
    }

    /// Sums every chunk whose parts are all there.
    fn sum(&mut self) -> bool {
        let Some(recipe) = &self.recipe else { return false };
        let mut any = false;
        while self.summed < chunks(&self.slice) {
            let range = chunk(&self.slice, self.summed);
            let ready = |peer: &Peer| {
                peer.plan.as_ref().is_some_and(|plan| peer.parts_got == (self.summed + 1) * plan.parts.len())
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
            for (into, from) in &recipe.steps {
                let from = std::mem::take(&mut parts[*from]);
                tree::add(parts[*into], from);
            }
            // The home of all sums is our first part, and each chain of sums that reaches it stays there.
            self.summed += 1;
            any = true;
        }
        any
    }

    /// Sends what it can to a peer.
    fn send(&mut self, place: usize, link: &mut Link) -> Result<bool, Fault> {
        let mut any = false;
        while link.is_drained() || self.peers[place].sending.is_some() {
            let (parts_out, summed) = (self.parts_out(place), self.summed);
            let peer = &mut self.peers[place];
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
                link.start(Head::of(kind, self.tag, false, body));
            }
            match link.write_on(body)? {
                None => break,
                Some(false) => any = true,
                Some(true) => {
                    any = true;
                    peer.sending = None;
                    match sending {
                        Sending::Sum(_) => peer.sums_sent += 1,
                        Sending::Part(_) => peer.parts_sent += 1,
                    }
                    // The other links have waited.
                    break;
                }
            }
        }
        Ok(any)
    }

    /// Takes what it can of a peer.
    fn receive(&mut self, place: usize, link: &mut Link) -> Result<bool, Fault> {
        let mut any = false;
        while self.expects(place) {
            let Some(head) = link.head()? else { break };
            if head.tag != self.tag {
                return Err(Fault::Disagrees(format!(
                    "it sent {} of operation {} in operation {}",
                    head.kind.name(),
                    head.tag,
                    self.tag
                )));
            }
            let (parts_in, has_room) = (self.parts_in(place), self.has_room(place));
            let peer = &mut self.peers[place];
            match head.kind {
                Kind::Plan if peer.plan.is_none() => {
                    let Some((_, _, bytes)) = link.message(BODY_BYTES_MAX)? else { break };
                    let plan = Plan::decode(&bytes).map_err(Fault::Disagrees)?;
                    if let Some(difference) = plan.difference(&self.plan) {
                        return Err(Fault::Disagrees(difference));
                    }
                    peer.slots = vec![vec![0.0; CHUNK.min(self.slice.len())]; plan.parts.len()];
                    peer.plan = Some(plan);
                    self.settle()?;
                }
                Kind::Part if peer.parts_got < parts_in => {
                    if !has_room {
                        break;
                    }
                    let parts = peer.slots.len();
                    let length = chunk(&self.slice, peer.parts_got / parts).len();
                    check(head, length)?;
                    let slot = &mut peer.slots[peer.parts_got % parts][..length];
                    match link.read_on(bytemuck::cast_slice_mut(slot))? {
                        None => break,
                        Some(whole) => peer.parts_got += usize::from(whole),
                    }
                }
                Kind::Sum if peer.sums_got < chunks(&peer.slice) => {
                    let range = chunk(&peer.slice, peer.sums_got);
                    check(head, range.len())?;
                    if peer.parts_sent < (peer.sums_got + 1) * self.own.len() {
                        return Err(Fault::Disagrees(
                            "it sent sums of numbers that it does not have".to_owned(),
                        ));
                    }
                    match link.read_on(bytemuck::cast_slice_mut(&mut self.own[0].values.vector[range]))? {
                        None => break,
                        Some(whole) => peer.sums_got += usize::from(whole),
                    }
                }
                other => return Err(Fault::Disagrees(format!("it sent {} at the wrong time", other.name()))),
            }
            any = true;
        }
        Ok(any)
    }
}

fn check(head: Head, numbers: usize) -> Result<(), Fault> {
    let expected = numbers * size_of::<f32>();
    if head.length == expected {
        return Ok(());
    }
    Err(Fault::Disagrees(format!(
        "it sent {} of {} bytes instead of {expected}",
        head.kind.name(),
        head.length
    )))
}

impl Exchange for AllReduce {
    fn advance(&mut self, place: usize, link: &mut Link) -> Result<bool, Fault> {
        let sent = self.send(place, link)?;
        let received = self.receive(place, link)?;
        let summed = self.sum();
        Ok(sent || received || summed)
    }

    fn awaits(&self, place: usize, link: &Link) -> bool {
        let stuck = link.coming().is_some_and(|kind| kind == Kind::Part) && !self.has_room(place);
        self.expects(place) && !stuck
    }

    fn sends(&self, place: usize) -> bool {
        let peer = &self.peers[place];
        peer.sending.is_some() || peer.sums_sent < self.summed || peer.parts_sent < self.parts_out(place)
    }

    fn needs_drained(&self, _place: usize) -> bool {
        true
    }

    fn done(&self, links: &[Link]) -> bool {
        let all = (0..self.peers.len()).all(|place| !self.expects(place) && !self.sends(place));
        all && self.summed == chunks(&self.slice)
            && self.recipe.is_some()
            && links.iter().all(Link::is_drained)
    }
}

/// The first words of an all-reduce on every link.
pub fn announce(reduce: &AllReduce) -> Queued {
    Queued { kind: Kind::Plan, tag: reduce.tag, bytes: Arc::new(reduce.plan.encode()) }
}
