//! Free ports on loopback. Another process may still take one before it is used; binding then fails.

use anyhow::{Context, Result};
use std::net::TcpListener;

/// `count` distinct ports: `first` and its successors where they are free, any free ones otherwise.
pub fn free(count: usize, first: Option<u16>) -> Result<Vec<u16>> {
    // All listeners are held until the end, so that no port is found twice.
    let mut held = Vec::with_capacity(count);
    for offset in 0..count {
        let wished =
            first.zip(u16::try_from(offset).ok()).and_then(|(first, offset)| first.checked_add(offset));
        let listener = wished.and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok());
        let listener = match listener {
            Some(listener) => listener,
            None => TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?,
        };
        held.push(listener);
    }
    held.iter().map(|listener| Ok(listener.local_addr().context("find a free port")?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_replaced() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let found = free(2, Some(port)).unwrap();
        assert_ne!(found[0], port);
        assert_ne!(found[0], found[1]);
    }
}
