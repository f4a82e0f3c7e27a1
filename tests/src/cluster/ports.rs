//! Free ports.

use super::error::Error;
use std::net::TcpListener;

/// Finds `count` different ports on loopback that are free now. Another process may take one before it is
/// used.
pub fn free(count: usize) -> Result<Vec<u16>, Error> {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).map_err(Error::io("find a free port"));
    let listeners = (0..count).map(|_| bind()).collect::<Result<Vec<TcpListener>, Error>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr().map_err(Error::io("find a free port"))?.port()))
        .collect()
}
