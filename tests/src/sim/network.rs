//! Who can reach whom, how long it takes, and what is lost on the way. One network carries peers, bus and
//! clients.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// A late message arrives within this time.
const LATE_MS_MAX: u64 = 1_000;
/// A very late one, which may have outlived the leader that it was meant for, or the lease that it was said
/// under.
const VERY_LATE_MS_MAX: u64 = 6_000;
/// One in so many late messages is very late.
const VERY_LATE_IN: u32 = 8;

/// Somebody on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A coordinator, by its position.
    Coordinator(usize),
    /// A worker's agent, by its position.
    Worker(usize),
    /// A client, by its position.
    Client(usize),
}

/// The network as it is now.
#[derive(Default)]
pub struct Network {
    /// Messages from the first to the second are lost.
    cut: BTreeSet<(Place, Place)>,
    /// The broker is gone: nothing passes between coordinators and workers.
    pub broker_is_down: bool,
    /// Of a thousand messages, so many are lost.
    pub lost_per_mille: u32,
    /// Of a thousand messages, so many arrive twice.
    pub repeated_per_mille: u32,
    /// Of a thousand messages, so many are late, some of them very late.
    pub late_per_mille: u32,
}

impl Network {
    /// Cuts one direction, or mends it.
    pub fn set_cut(&mut self, from: Place, to: Place, cut: bool) {
        if cut {
            self.cut.insert((from, to));
        } else {
            self.cut.remove(&(from, to));
        }
    }

    /// Everything arrives, once and soon.
    pub fn heal(&mut self) {
        *self = Network::default();
    }

    fn passes(&self, from: Place, to: Place) -> bool {
        let over_the_bus = matches!((from, to), (Place::Worker(_), _) | (_, Place::Worker(_)));
        !(self.cut.contains(&(from, to)) || self.broker_is_down && over_the_bus)
    }

    /// When a message arrives, after how many milliseconds: never, once or twice.
    pub fn delays_ms(&self, from: Place, to: Place, random: &mut ChaCha8Rng) -> Vec<u64> {
        if !self.passes(from, to) || self.happens(self.lost_per_mille, random) {
            return Vec::new();
        }
        let calm = self.late_per_mille == 0;
        let count = 1 + usize::from(self.happens(self.repeated_per_mille, random));
        let late = self.late_per_mille;
        let mut delay = || {
            let usual = if calm { 1 } else { random.random_range(1..6) };
            let late = late > 0 && random.random_range(0..1_000) < late;
            let late_ms_max = if late && random.random_range(0..VERY_LATE_IN) == 0 {
                VERY_LATE_MS_MAX
            } else {
                LATE_MS_MAX
            };
            usual + if late { random.random_range(0..late_ms_max) } else { 0 }
        };
        (0..count).map(|_| delay()).collect()
    }

    fn happens(&self, per_mille: u32, random: &mut ChaCha8Rng) -> bool {
        per_mille > 0 && random.random_range(0..1_000) < per_mille
    }
}
