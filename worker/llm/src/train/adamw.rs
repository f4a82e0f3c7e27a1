//! AdamW with moments of our own, so that a run can be resumed.
