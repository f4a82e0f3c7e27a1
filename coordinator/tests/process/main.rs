//! Real coordinators in one process, on loopback and without a broker: what clients see of them, and what
//! garbage does to them.

mod garbage;
mod harness;
mod old_data;
mod single;
mod streams;
mod three;
