//! Ports that are free now, below the range that the kernel gives to outgoing connections.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

/// Hands out ports, none twice.
#[derive(Default)]
pub(super) struct Ports {
    taken: BTreeSet<u16>,
}

impl Ports {
    /// A port on which one can listen on loopback.
    pub(super) fn free(&mut self) -> Result<u16> {
        for _ in 0..1000 {
            let port = rand::random_range(20_000..32_000);
            if !self.taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                self.taken.insert(port);
                return Ok(port);
            }
        }
        bail!("no free port between 20000 and 32000 on 127.0.0.1")
    }
}
