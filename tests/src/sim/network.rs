//! The simulated network between coordinators, workers and clients: which messages arrive, and when.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// A late message arrives within this time.
const LATE_MS_MAX: u64 = 1_000;
/// A very late message arrives within this time: it may outlive the leader that it was sent to, or the lease
/// that it was sent under.
const VERY_LATE_MS_MAX: u64 = 6_000;
/// One in this many late messages is very late.
const VERY_LATE_IN: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// A coordinator, by index.
    Coordinator(usize),
    /// A worker's agent, by index.
    Worker(usize),
    /// A client, by index.
    Client(usize),
}

#[derive(Default)]
pub struct Network {
    /// Messages from the first endpoint to the second are lost.
    cut: BTreeSet<(Endpoint, Endpoint)>,
    /// The broker is down: nothing passes between coordinators and workers.
    pub broker_is_down: bool,
    pub lost_per_mille: u32,
    pub repeated_per_mille: u32,
    pub late_per_mille: u32,
}

impl Network {
    /// Cuts one direction, or restores it.
    pub fn set_cut(&mut self, from: Endpoint, to: Endpoint, cut: bool) {
        if cut {
            self.cut.insert((from, to));
        } else {
            self.cut.remove(&(from, to));
        }
    }

    /// Every message arrives from now on, once and soon.
    pub fn heal(&mut self) {
        *self = Network::default();
    }

    fn passes(&self, from: Endpoint, to: Endpoint) -> bool {
        let over_the_bus = matches!((from, to), (Endpoint::Worker(_), _) | (_, Endpoint::Worker(_)));
        !(self.cut.contains(&(from, to)) || self.broker_is_down && over_the_bus)
    }

    /// The delays of the copies of a message that arrive: none, one or two.
    pub fn delays_ms(&self, from: Endpoint, to: Endpoint, random: &mut ChaCha8Rng) -> Vec<u64> {
        if !self.passes(from, to) || self.occurs(self.lost_per_mille, random) {
            return Vec::new();
        }
        let calm = self.late_per_mille == 0;
        let count = 1 + usize::from(self.occurs(self.repeated_per_mille, random));
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

    fn occurs(&self, per_mille: u32, random: &mut ChaCha8Rng) -> bool {
        per_mille > 0 && random.random_range(0..1_000) < per_mille
    }
}
