//! The types that coordinators, workers and clients exchange: ids, job specs, commands, events, messages.
//!
//! All of it is plain data with two encodings: bincode for the wire and the log ([`codec`]), JSON for people
//! ([`view`], serde). The crate must never act: it is `no_std`, so that the core, which is built on it, can't
//! reach a clock, a socket or a thread. It imports no other crate of the workspace.
//!
//! **Invariant**: every enum in the log or on the wire is declared with [`tagged!`](crate::tagged!) or
//! [`words!`](crate::words!), which write down its numeric tags instead of taking them from the order of the
//! variants.
#![no_std]
#![warn(missing_docs)]
extern crate alloc;

pub mod attempt_call;
pub mod bus;
pub mod codec;
pub mod command;
pub mod envelope;
pub mod event;
pub mod ids;
pub mod interval_set;
pub mod limits;
pub mod outcome;
pub mod rejection;
pub mod resources;
pub mod spec;
pub mod subjects;
mod tagged;
pub mod time;
pub mod training;
pub mod view;
pub mod worker;
