//! Real coordinators in one process, on loopback and without a broker: what clients see, and what invalid
//! bytes do.

mod garbage;
mod harness;
mod old_data;
mod single;
mod streams;
mod three;
