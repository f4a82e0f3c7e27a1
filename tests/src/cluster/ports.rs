//! Ports that are free now.

use super::Error;
use std::net::TcpListener;

/// So many ports on loopback, different from each other. They were free a moment ago: whoever binds one and
/// fails says so.
pub fn free(count: usize) -> Result<Vec<u16>, Error> {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).map_err(Error::io("find a free port"));
    let listeners = (0..count).map(|_| bind()).collect::<Result<Vec<TcpListener>, Error>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr().map_err(Error::io("find a free port"))?.port()))
        .collect()
}
