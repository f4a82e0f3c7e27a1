//! The worker side of the bus.
