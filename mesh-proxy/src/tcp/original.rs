//! Where a redirected connection was going.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The destination before the kernel's redirection to `listener`; `None` where the connection was made to the listener
/// itself. One system call a connection.
pub(crate) fn original_destination(stream: &TcpStream, listener: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    // It fails where the kernel does not track connections: then nothing was redirected.
    let original = match listener {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    let original = original.ok()?.as_socket()?;
    let original = SocketAddr::new(original.ip().to_canonical(), original.port());
    (!is_listener(original, listener)).then_some(original)
}

fn is_listener(original: SocketAddr, listener: SocketAddr) -> bool {
    let here = listener.ip().is_unspecified() || listener.ip() == original.ip();
    here && original.port() == listener.port()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn what_was_going_to_the_listener_itself_was_not_captured() {
        let at = |text: &str| text.parse().unwrap();
        assert!(is_listener(at("127.0.0.1:15001"), at("127.0.0.1:15001")));
        assert!(
            is_listener(at("10.0.0.1:15006"), at("0.0.0.0:15006")),
            "a wildcard is every address of the host"
        );
        assert!(
            !is_listener(at("10.0.0.1:15001"), at("127.0.0.1:15001")),
            "another host's port of that number"
        );
        assert!(!is_listener(at("10.0.0.1:80"), at("0.0.0.0:15006")));
    }

    #[tokio::test]
    async fn a_connection_that_nobody_redirected_has_no_other_destination() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _caller = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert_eq!(original_destination(&accepted, address), None);
    }
}
