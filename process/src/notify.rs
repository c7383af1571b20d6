//! Tells systemd that this process is ready or stops: one datagram to the socket it names (sd_notify(3)).
//!
//! No other part of the protocol is used, so no library is. That it can't be told is logged and no failure.

use std::ffi::OsStr;
use std::io::Result;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// It serves. `socket` is the value of `NOTIFY_SOCKET`: a path, or `@name` in the abstract namespace.
pub fn ready(socket: Option<&OsStr>) {
    tell(socket, "READY=1");
}

/// It ends, or drains first.
pub fn stopping(socket: Option<&OsStr>) {
    tell(socket, "STOPPING=1");
}

fn tell(socket: Option<&OsStr>, state: &str) {
    let Some(socket) = socket.filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(socket, state) {
        tracing::warn!(%error, socket = %socket.display(), "telling systemd {state} failed");
    }
}

fn send(socket: &OsStr, state: &str) -> Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(systemd: &UnixDatagram) -> String {
        let mut message = [0; 64];
        let length = systemd.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    #[test]
    fn systemd_gets_one_datagram_for_each_state() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        ready(Some(path.as_os_str()));
        stopping(Some(path.as_os_str()));
        assert_eq!((received(&systemd), received(&systemd)), ("READY=1".to_owned(), "STOPPING=1".to_owned()));
    }

    #[test]
    fn a_name_with_an_at_sign_is_in_the_abstract_namespace() {
        let name = format!("weft-process-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        ready(Some(OsStr::new(&format!("@{name}"))));
        assert_eq!(received(&systemd), "READY=1");
    }

    #[test]
    fn an_absent_systemd_is_no_failure() {
        for socket in [None, Some(OsStr::new("")), Some(OsStr::new("/nonexistent/socket"))] {
            ready(socket);
        }
    }
}
