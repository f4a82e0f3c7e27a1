//! The vocabulary of Muster: what coordinators, workers and clients say to each other, and nothing that does
//! anything.
//!
//! Everything here is plain data with two encodings: bincode for wire and log ([`codec`]), JSON for people
//! ([`view`], serde). The crate is `no_std`, so that the pure core, which is built on it, cannot reach a
//! clock, a socket or a thread.
//!
//! **Invariant**: every enum that is written to the log or the wire is made by [`tagged!`](crate::tagged!),
//! so that its numeric tags are written down and never follow from the order of its variants.
#![no_std]
extern crate alloc;

pub mod attempt_call;
pub mod bus;
pub mod codec;
pub mod command;
pub mod envelope;
pub mod event;
pub mod ids;
pub mod limits;
pub mod outcome;
pub mod rejection;
pub mod resources;
pub mod spec;
pub mod subjects;
mod tagged;
pub mod time;
pub mod view;
pub mod worker;
