//! Bytes that ranks share: each rank's with all, or rank 0's with the others.

use super::drive::{Exchange, Fault};
use super::frame::Kind;
use super::link::{Link, Queued};
use std::sync::Arc;

/// The longest message of bytes.
pub const BYTES_MAX: usize = 1 << 30;

/// Waits for one message of bytes from some ranks, while what is queued goes out.
#[derive(Debug)]
pub struct Share {
    tag: u32,
    /// By link: what has come; `None` where nothing is expected.
    from: Vec<Option<Option<Vec<u8>>>>,
}

impl Share {
    /// Expects bytes on the links for which `expected` says so.
    pub fn new(tag: u32, expected: impl Iterator<Item = bool>) -> Share {
        Share { tag, from: expected.map(|expected| expected.then_some(None)).collect() }
    }

    /// The message that puts `bytes` on a link.
    pub fn message(tag: u32, bytes: Arc<Vec<u8>>) -> Queued {
        Queued { kind: Kind::Bytes, tag, bytes }
    }

    /// What has come, by link; nothing where nothing was expected.
    pub fn into_bytes(self) -> Vec<Vec<u8>> {
        self.from.into_iter().map(|from| from.flatten().unwrap_or_default()).collect()
    }
}

impl Exchange for Share {
    fn advance(&mut self, place: usize, link: &mut Link) -> Result<bool, Fault> {
        let Some(from @ None) = &mut self.from[place] else { return Ok(false) };
        let before = link.heard();
        match link.message(BYTES_MAX)? {
            None => return Ok(link.heard() > before),
            Some((Kind::Bytes, tag, bytes)) if tag == self.tag => *from = Some(bytes),
            Some((kind, tag, _)) => {
                let reason = format!(
                    "it sent {} of operation {tag} at the wrong time, in operation {}",
                    kind.name(),
                    self.tag
                );
                return Err(Fault::Disagrees(reason));
            }
        }
        Ok(true)
    }

    fn awaits(&self, place: usize, _link: &Link) -> bool {
        self.from[place] == Some(None)
    }

    fn sends(&self, _place: usize) -> bool {
        false
    }

    fn needs_drained(&self, _place: usize) -> bool {
        true
    }

    fn done(&self, links: &[Link]) -> bool {
        self.from.iter().all(|from| *from != Some(None)) && links.iter().all(Link::is_drained)
    }
}
