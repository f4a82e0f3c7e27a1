//! What the demo shows.
