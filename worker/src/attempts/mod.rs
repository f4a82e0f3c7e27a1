//! Attempts as processes.
