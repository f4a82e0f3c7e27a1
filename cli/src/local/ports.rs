//! Free ports on loopback. Another process may still take one before it is used; binding then fails.

use anyhow::{Context, Result};
use std::net::TcpListener;

/// A distinct port for each wish: the wished one where it is free, any free one otherwise.
pub fn free(wishes: impl IntoIterator<Item = Option<u16>>) -> Result<Vec<u16>> {
    // All listeners are held until the end, so that no port is found twice. So all the ports of a cluster
    // must be asked for together.
    let mut held = Vec::new();
    for wish in wishes {
        let listener = wish.and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok());
        let listener = match listener {
            Some(listener) => listener,
            None => TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?,
        };
        held.push(listener);
    }
    held.iter().map(|listener| Ok(listener.local_addr().context("find a free port")?.port())).collect()
}

/// Wishes for `count` ports: `first` and those that follow it.
pub fn successors(first: Option<u16>, count: usize) -> impl Iterator<Item = Option<u16>> {
    (0..count).map(move |offset| first.and_then(|first| first.checked_add(u16::try_from(offset).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_port_that_is_taken_is_replaced() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let found = free(successors(Some(port), 2)).unwrap();
        assert_ne!(found[0], port);
        assert_ne!(found[0], found[1]);
    }

    #[test]
    fn the_ports_of_a_cluster_are_distinct() {
        let found = free(successors(None, 300).chain(successors(None, 300)).chain([None])).unwrap();
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 601);
    }
}
