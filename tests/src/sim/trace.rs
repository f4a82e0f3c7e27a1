//! The trace of a run. Its hash says whether two runs were the same, down to the bytes of messages; its last
//! lines show what led to a failure.

use muster_protocol::ids::Digest;
use std::collections::VecDeque;
use std::fmt;

pub struct Trace {
    hasher: blake3::Hasher,
    lines: VecDeque<String>,
    kept: usize,
}

impl Trace {
    /// A trace that keeps its last `kept` lines.
    pub fn new(kept: usize) -> Trace {
        Trace { hasher: blake3::Hasher::new(), lines: VecDeque::new(), kept }
    }

    pub fn log(&mut self, now_ms: u64, line: fmt::Arguments<'_>) {
        let line = format!("{now_ms:>7} {line}");
        self.hasher.update(line.as_bytes());
        self.hasher.update(b"\n");
        if self.lines.len() == self.kept {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Adds bytes to the hash without a line.
    pub fn absorb(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    pub fn hash(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }

    pub fn last(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
