//! Ports on 127.0.0.1 that stay free for their owner while nothing listens on them.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

/// Listens on a port below the range that the kernel gives to outgoing connections (32768 and up, in
/// `net.ipv4.ip_local_port_range`): no client takes it while its server is down for a moment.
pub(super) fn listen() -> Result<TcpListener> {
    for _ in 0..1000 {
        let port = rand::random_range(15_000..32_000);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener);
        }
    }
    bail!("no free port between 15000 and 32000 on 127.0.0.1")
}

/// A port that is free at this moment. Another program may be quicker: try again then.
pub(super) fn free() -> Result<u16> {
    Ok(listen()?.local_addr()?.port())
}
