//! The whole chain, in one process.
