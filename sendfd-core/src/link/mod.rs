//! Links to targets: a module for each path, with functions of the same names. `reach` opens a link, `send`
//! sends over it.

pub(crate) mod name;
pub(crate) mod pidfd;
mod socket;
pub(crate) mod syscall;

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::error::Cause;
use crate::outgoing::Outgoing;
use crate::path::Path;
use crate::process::Seen;

pub(crate) use socket::Socket;

/// An open link, by one of the paths.
#[derive(Debug)]
pub(crate) enum Link {
    Syscall(syscall::Link),
    Pidfd(Socket),
    Name(Socket),
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The inbox behind the link is gone: closed, or this connection to it was let go, or its process
    /// has exited. The link can be opened again.
    Gone,
    /// EPERM or EINVAL: this process may not be named as it was, or carries what cannot travel.
    Refused(Errno),
    For(Cause),
}

impl Link {
    pub(crate) fn reach(path: Path, process: &Seen<'_>, sig: i32) -> Result<Self, Cause> {
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
    pub(crate) fn socket(&self) -> Option<&Socket> {
        match self {
            Link::Syscall(_) => None,
            Link::Pidfd(socket) | Link::Name(socket) => Some(socket),
        }
    }

    /// Gives the socket to another link of the same path, whose own the program has closed, if the kernel
    /// has given the number of that to this one. Otherwise comes back as the error.
    pub(crate) fn give_back(self, to: &Link) -> Result<(), Link> {
        match (self, to) {
            (Link::Pidfd(own), Link::Pidfd(other)) => other.regain(own).map_err(Link::Pidfd),
            (Link::Name(own), Link::Name(other)) => other.regain(own).map_err(Link::Name),
            (other, _) => Err(other),
        }
    }

    /// One system call, which never blocks.
    #[inline]
    pub(crate) fn send(
        &self,
        fds: &[BorrowedFd<'_>],
        outgoing: &Outgoing<'_>,
    ) -> Result<(), Unsent> {
        match self {
            Link::Syscall(link) => syscall::send(link, fds, outgoing).map_err(Unsent::For),
            Link::Pidfd(socket) | Link::Name(socket) => socket.send(fds, outgoing),
        }
    }
}
