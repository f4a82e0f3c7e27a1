//! The one binary.

mod broker;

fn main() {}
