//! What was reached: a closed set, sibling modules with the same function names. `reach` a target,
//! `send` over what was reached.

pub(crate) mod name;
pub(crate) mod pidfd;
mod socket;
pub(crate) mod syscall;

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::error::Cause;
use crate::outgoing::Outgoing;
use crate::path::Path;
use crate::process::Process;

/// What was reached, by one of the paths.
#[derive(Debug)]
pub(crate) enum Link {
    Syscall(syscall::Link),
    Pidfd(pidfd::Link),
    Name(name::Link),
}

impl Link {
    pub(crate) fn reach(path: Path, process: &Process, sig: i32) -> Result<Self, Cause> {
        Ok(match path {
            Path::Syscall => Link::Syscall(syscall::reach(process, sig)?),
            Path::Pidfd => Link::Pidfd(pidfd::reach(process, sig)?),
            Path::Name => Link::Name(name::reach(process, sig)?),
        })
    }

    pub(crate) fn path(&self) -> Path {
        match self {
            Link::Syscall(_) => Path::Syscall,
            Link::Pidfd(_) => Path::Pidfd,
            Link::Name(_) => Path::Name,
        }
    }

    /// The socket that is sent over, unless it is the system call.
    pub(crate) fn socket(&self) -> Option<&OwnedFd> {
        match self {
            Link::Syscall(_) => None,
            Link::Pidfd(link) => Some(&link.0),
            Link::Name(link) => Some(&link.0),
        }
    }

    /// One system call, which never blocks.
    #[inline]
    pub(crate) fn send(
        &self,
        fds: &[BorrowedFd<'_>],
        outgoing: &Outgoing<'_>,
    ) -> Result<(), Cause> {
        match self {
            Link::Syscall(link) => syscall::send(link, fds, outgoing),
            Link::Pidfd(link) => socket::send(&link.0, fds, outgoing),
            Link::Name(link) => socket::send(&link.0, fds, outgoing),
        }
    }
}
