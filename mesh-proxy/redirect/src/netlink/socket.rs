//! The netlink socket: one transaction or one dump at a time, and the kernel's answers in full.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use super::NetlinkError;
use super::attribute::{Attributes, Reader};
use super::constant::{CAPPED, DONE, DUMP, DUMP_INTERRUPTED, ERROR, ERROR_TEXT, REQUEST, WITH_ATTRIBUTES};
use super::message::{Batch, kind_of, message};

/// The kernel answers while it is asked; this is for the case that it never does.
const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel's parts of a dump have at most 32 KiB.
const BUFFER: usize = 64 * 1024;
const HEADER: usize = 16;
/// nfnetlink's header: family, version, and the generation of the rules.
const FAMILY_HEADER: usize = 4;

/// The socket.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

/// One message of an answer.
struct Answer<'a> {
    kind: u16,
    flags: u16,
    number: u32,
    content: &'a [u8],
}

/// What a dump gave.
pub(super) struct Dump {
    /// The attributes of each object.
    pub(super) objects: Vec<Vec<u8>>,
    /// The generations of the rules that they were read from; more than one: they do not fit together.
    pub(super) generations: Vec<[u8; 2]>,
}

impl Socket {
    /// In the namespace of this thread.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )
        .map_err(|errno| match errno {
            Errno::PROTONOSUPPORT => NetlinkError::NoNfTables(errno.into()),
            errno => failed("netlink socket")(errno.into()),
        })?;
        // What the kernel says to an error in words, and the error without the message that it is about.
        set(&socket, libc::NETLINK_EXT_ACK).map_err(failed("NETLINK_EXT_ACK"))?;
        set(&socket, libc::NETLINK_CAP_ACK).map_err(failed("NETLINK_CAP_ACK"))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))
            .map_err(|errno| failed("netlink time-out")(errno.into()))?;
        Ok(Self(socket))
    }

    /// Sends a batch and waits until all of it is done.
    pub(super) fn transact(&self, batch: Batch) -> Result<(), NetlinkError> {
        // A batch is one datagram. The kernel doubles this, for its own bookkeeping.
        sockopt::set_socket_send_buffer_size(&self.0, batch.bytes().len() + BUFFER)
            .map_err(|errno| failed("netlink send buffer")(errno.into()))?;
        self.send(batch.bytes())?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut done = false;
            for answer in Answers(self.receive(&mut buffer)?) {
                let answer = answer?;
                if answer.kind == ERROR {
                    refusal(&answer, batch.object(answer.number))?;
                    done |= answer.number == batch.last();
                }
            }
            if done {
                return Ok(());
            }
        }
    }

    /// Asks for all objects of a kind.
    pub(super) fn dump(&self, kind: u8, what: &str, attributes: Attributes) -> Result<Dump, NetlinkError> {
        self.send(&message(kind_of(kind), REQUEST | DUMP, 0, attributes))?;
        let mut dump = Dump { objects: Vec::new(), generations: Vec::new() };
        let mut buffer = vec![0; BUFFER];
        let mut interrupted = false;
        loop {
            let mut done = false;
            for answer in Answers(self.receive(&mut buffer)?) {
                let answer = answer?;
                interrupted |= answer.flags & DUMP_INTERRUPTED != 0;
                match answer.kind {
                    ERROR | DONE => {
                        refusal(&answer, what)?;
                        done = true;
                    }
                    _ => dump.take(answer.content)?,
                }
            }
            if done {
                if interrupted {
                    dump.generations.extend([[0, 0], [0, 1]]);
                }
                return Ok(dump);
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        let sent = rustix::net::send(&self.0, bytes, SendFlags::empty())
            .map_err(|errno| failed("sending to the kernel")(errno.into()))?;
        if sent == bytes.len() { Ok(()) } else { Err(NetlinkError::Malformed("only a part was taken")) }
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8], NetlinkError> {
        // With `TRUNC` the length is that of the datagram, also where the buffer is shorter.
        let (_, length) = rustix::net::recv(&self.0, &mut *buffer, RecvFlags::TRUNC)
            .map_err(|errno| failed("waiting for the kernel")(errno.into()))?;
        buffer.get(..length).ok_or(NetlinkError::Malformed("it is longer than any should be"))
    }
}

impl Dump {
    fn take(&mut self, content: &[u8]) -> Result<(), NetlinkError> {
        let short = NetlinkError::Malformed("an object without a header");
        let Some(([_, _, high, low], attributes)) = content.split_first_chunk::<FAMILY_HEADER>() else {
            return Err(short);
        };
        let generation = [*high, *low];
        if !self.generations.contains(&generation) {
            self.generations.push(generation);
        }
        self.objects.push(attributes.to_vec());
        Ok(())
    }
}

/// The messages of a datagram.
struct Answers<'a>(&'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Result<Answer<'a>, NetlinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let ([l0, l1, l2, l3, k0, k1, f0, f1, n0, n1, n2, n3, ..], _) =
            self.0.split_first_chunk::<HEADER>()?;
        let length = u32::from_ne_bytes([*l0, *l1, *l2, *l3]) as usize;
        let answer = Answer {
            kind: u16::from_ne_bytes([*k0, *k1]),
            flags: u16::from_ne_bytes([*f0, *f1]),
            number: u32::from_ne_bytes([*n0, *n1, *n2, *n3]),
            content: self.0.get(HEADER..length).unwrap_or_default(),
        };
        let whole = (HEADER..=self.0.len()).contains(&length);
        self.0 = if whole { self.0.get(length.next_multiple_of(4)..).unwrap_or_default() } else { &[] };
        Some(if whole { Ok(answer) } else { Err(NetlinkError::Malformed("a message's length")) })
    }
}

/// Whether an answer of errors is one.
fn refusal(answer: &Answer<'_>, object: &str) -> Result<(), NetlinkError> {
    let Some((code, rest)) = answer.content.split_first_chunk::<4>() else {
        return Err(NetlinkError::Malformed("an error without its number"));
    };
    let errno = match i32::from_ne_bytes(*code) {
        0 => return Ok(()),
        code => Errno::from_raw_os_error(code.saturating_neg()),
    };
    match errno {
        Errno::PERM => Err(NetlinkError::NotPermitted),
        // Of the batch itself, and not of something in it: nobody is there to take it.
        Errno::OPNOTSUPP | Errno::INVAL if answer.number == 0 => Err(NetlinkError::NoNfTables(errno.into())),
        _ => Err(NetlinkError::Refused {
            object: object.to_owned(),
            reason: errno.into(),
            detail: detail(answer, rest)?,
        }),
    }
}

/// What the kernel says to an error in words.
fn detail(answer: &Answer<'_>, rest: &[u8]) -> Result<Option<String>, NetlinkError> {
    if answer.kind != ERROR || answer.flags & WITH_ATTRIBUTES == 0 {
        return Ok(None);
    }
    // The message that the error is about stands first: its header, or all of it.
    let about = match rest.split_first_chunk::<4>() {
        Some((length, _)) if answer.flags & CAPPED == 0 => u32::from_ne_bytes(*length) as usize,
        _ => HEADER,
    };
    let attributes = rest.get(about.next_multiple_of(4)..).unwrap_or_default();
    let text = Reader::new(attributes).text(ERROR_TEXT)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> NetlinkError {
    move |reason| NetlinkError::Socket { doing, reason }
}

/// Switches an option of netlink sockets on; `rustix` has none of them.
fn set(socket: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open while `socket` is borrowed; the pointer and the length are those of a live number.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u32, kind: u16) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes
    }

    #[test]
    fn a_message_longer_than_the_datagram_is_an_error_and_the_end() {
        for length in [0, 15, 17, u32::MAX] {
            let bytes = header(length, DONE);
            let answers: Vec<_> = Answers(&bytes).collect();
            assert!(matches!(answers.as_slice(), [Err(_)]), "{length}");
        }
    }

    #[test]
    fn an_error_has_its_object_and_the_kernels_words() {
        let mut content = (-(libc::ENOENT)).to_ne_bytes().to_vec();
        content.extend(header(16, 0));
        content.extend(Attributes::default().text(ERROR_TEXT, "no such chain").into_bytes());
        let answer = Answer { kind: ERROR, flags: WITH_ATTRIBUTES | CAPPED, number: 3, content: &content };
        let error = refusal(&answer, "rule 1").unwrap_err();
        assert_eq!(error.to_string(), "rule 1: No such file or directory (os error 2): no such chain");
    }

    #[test]
    fn an_error_of_the_batch_itself_means_that_there_is_no_nf_tables() {
        let content = (-(libc::EOPNOTSUPP)).to_ne_bytes();
        let answer = Answer { kind: ERROR, flags: 0, number: 0, content: &content };
        assert!(matches!(refusal(&answer, "x"), Err(NetlinkError::NoNfTables(_))));
    }
}
