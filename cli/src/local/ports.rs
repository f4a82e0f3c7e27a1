//! Ports on loopback that are free now. Whoever binds one later and fails says so.

use anyhow::{Context, Result};
use std::net::TcpListener;

/// So many ports, different from each other; from `first` on where those are free, any others where they are
/// not.
pub fn free(count: usize, first: Option<u16>) -> Result<Vec<u16>> {
    // All are held until all are found: none is found twice.
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
