//! TCP between coordinators: one outgoing connection to each member, and incoming ones from members only.
//!
//! Consensus does not depend on the broker. Any message may be lost here, because Raft resends: queues are
//! bounded, and a message that finds no room is dropped and reported to the replica.

mod frame;
mod handshake;
mod incoming;
mod outgoing;

pub use handshake::PeerIdentity;
pub use incoming::serve;
pub use outgoing::{PeerSender, connect};
