//! The system call itself, on a kernel that has it: pidfd_sendfd(2), which is sendfd(2) with a pidfd, and
//! so with a target that never comes to mean another process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::call;
use crate::error::{Cause, Denial};
use crate::outgoing::Outgoing;
use crate::path::Paths;
use crate::process::Seen;
use crate::sys;

const NOT_OFFERED: Cause = Cause::PathNotOffered(Paths::SYSCALL);

/// A target of the system call.
#[derive(Debug)]
pub(crate) struct Link {
    number: i64,
    pidfd: OwnedFd,
    sig: i32,
}

/// Asks the kernel whether the target may be sent to and expects descriptors with the signal.
pub(crate) fn reach(process: &Seen<'_>, sig: i32) -> Result<Link, Cause> {
    let number = call::number().ok_or(NOT_OFFERED)?;
    let pidfd = process.try_clone_pidfd()?.ok_or(NOT_OFFERED)?;
    sys::pidfd_may_sendfd(number, pidfd.as_fd(), sig).map_err(explain)?;
    Ok(Link { number, pidfd, sig })
}

/// Sends one descriptor. Nothing else goes this way: see [`Outgoing::is_bare`].
#[inline]
pub(crate) fn send(
    link: &Link,
    fds: &[BorrowedFd<'_>],
    outgoing: &Outgoing<'_>,
) -> Result<(), Cause> {
    let ([fd], true) = (fds, outgoing.is_bare()) else {
        return Err(NOT_OFFERED);
    };
    sys::pidfd_sendfd(link.number, link.pidfd.as_fd(), link.sig, *fd).map_err(explain)
}

#[cold]
fn explain(errno: Errno) -> Cause {
    match errno {
        Errno::NOSYS => {
            // The one answer that is about the kernel and not about this target or this moment.
            call::is_absent();
            NOT_OFFERED
        }
        Errno::BADF => Cause::BadDescriptor,
        Errno::SRCH => Cause::NoSuchProcess,
        Errno::CONNREFUSED => Cause::NotListening,
        Errno::AGAIN => Cause::QueueFull,
        Errno::PERM => Cause::NotPermitted(Denial::Signal),
        other => other.into(),
    }
}
