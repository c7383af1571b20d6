//! Tells systemd that the process runs or stops: one datagram to the socket it names (sd_notify(3)).
//!
//! No other part of the protocol is used, so no library is.

use std::ffi::OsStr;
use std::io::Result;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The listeners are open.
pub(crate) fn ready(socket: Option<&OsStr>) {
    send(socket, "READY=1");
}

/// It drains.
pub(crate) fn stopping(socket: Option<&OsStr>) {
    send(socket, "STOPPING=1");
}

fn send(socket: Option<&OsStr>, message: &str) {
    let Some(name) = socket.filter(|name| !name.is_empty()) else { return };
    if let Err(error) = try_send(name, message) {
        tracing::warn!(socket = %name.display(), "telling systemd {message}: {error}");
    }
}

fn try_send(name: &OsStr, message: &str) -> Result<()> {
    // A leading @ stands for the abstract namespace.
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_gets_one_datagram() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        ready(Some(path.as_os_str()));
        let mut message = [0; 64];
        let length = systemd.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1");
    }
}
