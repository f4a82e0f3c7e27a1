//! TCP between coordinators: one outgoing connection to each, and incoming ones from members only.
//!
//! Consensus does not hang on the broker. Any message may be lost here, for Raft sends again: queues are
//! bounded, and what finds no room is dropped, and said to be.

mod frame;
mod hello;
mod incoming;
mod outgoing;

pub use hello::Identity;
pub use incoming::serve;
pub use outgoing::{Outgoing, connect};
