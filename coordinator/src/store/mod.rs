//! The disk of a coordinator on real files: Raft log segments and the ledger in sled, snapshots as files.
