//! Folding a ledger again: offline from a data directory, or from the reader of a running store.
