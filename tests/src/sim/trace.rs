//! What happened, line by line: its hash says whether two runs were the same, its last lines what led to a failure.

use muster_protocol::ids::Digest;
use std::{collections::VecDeque, fmt};

/// The trace of a run.
pub struct Trace {
    hasher: blake3::Hasher,
    lines: VecDeque<String>,
    kept: usize,
}

impl Trace {
    /// A trace that remembers its last `kept` lines.
    pub fn new(kept: usize) -> Trace {
        Trace { hasher: blake3::Hasher::new(), lines: VecDeque::new(), kept }
    }

    /// One more line.
    pub fn say(&mut self, now_ms: u64, line: fmt::Arguments<'_>) {
        let line = format!("{now_ms:>7} {line}");
        self.hasher.update(line.as_bytes());
        self.hasher.update(b"\n");
        if self.lines.len() == self.kept {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The hash of all lines.
    pub fn hash(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }

    /// The last lines.
    pub fn last(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
