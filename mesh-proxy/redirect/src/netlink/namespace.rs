//! A socket in another network namespace.
//!
//! A netlink socket belongs to the namespace in which it was made. So a thread of its own enters the namespace, makes the
//! socket, hands it out and ends: no thread that anybody else uses ever was in there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::NetlinkError;
use super::socket::Socket;

/// A socket in the namespace of this file.
pub(super) fn socket_at(path: &Path) -> Result<Socket, NetlinkError> {
    let file = File::open(path).map_err(failed(path))?;
    socket_in(file.as_fd(), path)
}

/// A socket in the namespace of this descriptor, which `path` names in errors.
pub(super) fn socket_in(namespace: BorrowedFd<'_>, path: &Path) -> Result<Socket, NetlinkError> {
    thread::scope(|scope| {
        let inside = || {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
                .map_err(|errno| failed(path)(errno.into()))?;
            Socket::open()
        };
        let thread = thread::Builder::new().name("namespace".to_owned());
        let thread = thread.spawn_scoped(scope, inside).map_err(failed(path))?;
        thread.join().unwrap_or_else(|_| Err(failed(path)(io::Error::other("its thread panicked"))))
    })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> NetlinkError {
    move |reason| NetlinkError::Namespace { path: path.to_owned(), reason }
}
