//! The rules in the kernel: brought in, compared and taken away over netlink.
//!
//! One batch is one transaction: the kernel takes all of it or nothing, and no packet sees half of it. Our table is
//! deleted and made anew in the same batch, so it does not matter what was there, and applying twice is applying once.
//! A [`Kernel`] is the network namespace in which it was opened, whatever the thread does later.

mod attribute;
mod compile;
mod constant;
mod difference;
mod expression;
mod held;
mod message;
mod namespace;
mod socket;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

pub use difference::Difference;

use crate::Ruleset;
use message::Batch;
use socket::Socket;

/// How often what is held is read again when others change it meanwhile.
const READINGS: usize = 10;

/// nf_tables in one network namespace.
#[derive(Debug)]
pub struct Kernel {
    socket: Socket,
}

/// Why the kernel did not do it.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The capability is missing.
    #[error(
        "not permitted: CAP_NET_ADMIN is needed in the pod's network namespace (capabilities.add: [NET_ADMIN]; a user other than root does not keep it)"
    )]
    NotPermitted,
    /// The kernel knows no nf_tables.
    #[error("this kernel has no nf_tables ({0})")]
    NoNfTables(io::Error),
    /// The kernel refuses a part of the table.
    #[error("{object}: {reason}{}", .detail.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused {
        /// Which part.
        object: String,
        /// The error.
        reason: io::Error,
        /// What the kernel says to it.
        detail: Option<String>,
    },
    /// The namespace can't be entered.
    #[error("network namespace {}: {reason}", .path.display())]
    Namespace {
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// What the kernel sent is not what netlink is.
    #[error("the kernel's answer cannot be read: {0}")]
    Malformed(&'static str),
    /// Others change rules all the time.
    #[error("the rules are being changed by others; {READINGS} readings did not fit together")]
    Changing,
    /// The socket fails.
    #[error("{doing}: {reason}")]
    Socket {
        /// At what.
        doing: &'static str,
        /// How.
        reason: io::Error,
    },
}

impl Kernel {
    /// The namespace of this thread.
    ///
    /// # Errors
    /// Where the kernel has no netlink for nf_tables.
    pub fn here() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open()? })
    }

    /// The namespace of this file: `/proc/PID/ns/net`, `/run/netns/NAME`. The thread stays where it is.
    ///
    /// # Errors
    /// Where the file is none of a network namespace, or may not be entered; as [`Self::here`].
    pub fn in_namespace(path: &Path) -> Result<Self, NetlinkError> {
        Ok(Self { socket: namespace::socket_at(path)? })
    }

    /// The namespace of this descriptor.
    ///
    /// # Errors
    /// As [`Self::in_namespace`].
    pub fn in_namespace_of(descriptor: BorrowedFd<'_>) -> Result<Self, NetlinkError> {
        Ok(Self { socket: namespace::socket_in(descriptor, Path::new("by descriptor"))? })
    }

    /// Makes our table these rules, in one transaction, whatever it was.
    ///
    /// # Errors
    /// With what the kernel refuses. Everything is then as it was.
    pub fn apply(&self, ruleset: &Ruleset) -> Result<(), NetlinkError> {
        self.socket.transact(Batch::replacing(ruleset))
    }

    /// In what our table differs from these rules; empty: not at all.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn check(&self, ruleset: &Ruleset) -> Result<Vec<Difference>, NetlinkError> {
        for _ in 0..READINGS {
            if let Some(held) = held::read(&self.socket)? {
                return Ok(difference::between(ruleset, held.table.as_ref()));
            }
        }
        Err(NetlinkError::Changing)
    }

    /// Removes our table. Says whether there was one.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn clean(&self) -> Result<bool, NetlinkError> {
        match self.socket.transact(Batch::removing()) {
            Ok(()) => Ok(true),
            Err(NetlinkError::Refused { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
