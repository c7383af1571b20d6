//! What Linux knows of a TCP connection (`TCP_INFO`), asked from outside of the task that owns the socket.
//!
//! All the unsafe code of the proxy is here: the system call, and a file descriptor that is used beside its owner.
//! No second descriptor is opened for it: connections would cost two, and closing one would not end them.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::vanish::judge::Sending;

/// Another way to a socket, for as long as it is open.
#[derive(Debug)]
pub(super) struct Handle(Mutex<Option<RawFd>>);

/// A socket with a [`Handle`] to it.
#[derive(Debug)]
pub(super) struct Owned {
    stream: TcpStream,
    handle: Arc<Handle>,
}

impl Owned {
    pub(super) fn new(stream: TcpStream) -> Self {
        let handle = Arc::new(Handle(Mutex::new(Some(stream.as_raw_fd()))));
        Self { stream, handle }
    }

    pub(super) fn handle(&self) -> Arc<Handle> {
        self.handle.clone()
    }

    /// For reading and writing. Whoever put another socket into its place would break what [`Handle::with`] relies on.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn get(&self) -> &TcpStream {
        &self.stream
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        *self.handle.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Handle {
    /// `None` when the socket is closed.
    fn with<T>(&self, run: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let raw = (*held)?;
        // SAFETY: `raw` is the descriptor of the stream in an `Owned`. Its `drop` takes this lock and clears the number
        // before the stream is closed, so while the lock is held with a number in it the descriptor is open.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(raw) };
        Some(run(fd))
    }

    /// How sending goes.
    pub(super) fn sending(&self) -> Option<io::Result<Sending>> {
        self.with(sending)
    }

    /// Ends the connection in both directions: its owner reads the end at once, whatever the other side does.
    pub(super) fn cut(&self) {
        // An error is that of a connection that has ended by itself.
        let _ = self.with(|fd| rustix::net::shutdown(fd, rustix::net::Shutdown::Both));
    }
}

fn sending(fd: BorrowedFd<'_>) -> io::Result<Sending> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the pointers are to a `tcp_info` and to its length, both live for the call; the kernel writes no more than
    // `length` bytes.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is plain integers that were zero, in so far as the kernel has not written them.
    #[allow(unsafe_code)]
    let info = unsafe { info.assume_init() };
    Ok(Sending {
        unacknowledged: info.tcpi_unacked,
        timeouts: u32::from(info.tcpi_retransmits),
        since_ack: Duration::from_millis(info.tcpi_last_ack_recv.into()),
        timeout: Duration::from_micros(info.tcpi_rto.into()),
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_kernel_says_what_a_reader_that_does_not_read_has_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_silent, _) = listener.accept().await.unwrap();
        let mut owned = Owned::new(stream);
        let handle = owned.handle();
        owned.stream().write_all(b"hello").await.unwrap();
        // Its application has read nothing, its kernel has acknowledged all.
        while handle.sending().unwrap().unwrap().unacknowledged > 0 {
            tokio::task::yield_now().await;
        }
        let sending = handle.sending().unwrap().unwrap();
        assert_eq!(sending.timeouts, 0, "{sending:?}");
        assert!(sending.timeout >= Duration::from_millis(200), "{sending:?}");
        drop(owned);
        assert!(handle.sending().is_none());
    }

    #[tokio::test]
    async fn a_cut_ends_a_read_that_waits() {
        use tokio::io::AsyncReadExt;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_silent, _) = listener.accept().await.unwrap();
        let mut owned = Owned::new(stream);
        let handle = owned.handle();
        let read = tokio::spawn(async move { owned.stream().read(&mut [0; 8]).await });
        tokio::task::yield_now().await;
        handle.cut();
        assert_eq!(read.await.unwrap().unwrap(), 0);
    }
}
