//! sendfd(2) itself, on a kernel that has it and says so in /proc/sys/kernel/sendfd_nr.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI64, Ordering};

use rustix::io::Errno;

use crate::error::{Cause, Denial};
use crate::outgoing::Outgoing;
use crate::path::Paths;
use crate::process::{self, Seen, read_file};
use crate::sys;

const NOT_OFFERED: Cause = Cause::PathNotOffered(Paths::SYSCALL);

/// A target of the system call.
#[derive(Debug)]
pub(crate) struct Link {
    number: i64,
    pid: u32,
    sig: i32,
    /// The call takes a pid, which may come to mean another process. This says when.
    pidfd: Option<OwnedFd>,
}

/// Asks the kernel whether the target may be sent to and has asked for the signal.
///
/// The call looks at the descriptor last, so that one that cannot be open makes it a question
/// without effect: EBADF says that all else is well.
pub(crate) fn reach(process: &Seen<'_>, sig: i32) -> Result<Link, Cause> {
    let number = number().ok_or(NOT_OFFERED)?;
    let pidfd = process.try_clone_pidfd()?;
    match sys::sendfd(number, process.pid(), sig, -1) {
        Err(Errno::BADF) => Ok(Link {
            number,
            pid: process.pid(),
            sig,
            pidfd,
        }),
        answer => Err(explain(answer.err().unwrap_or(Errno::INVAL))),
    }
}

/// Sends one descriptor. Nothing else goes this way: see [`Outgoing::is_bare`].
pub(crate) fn send(
    link: &Link,
    fds: &[BorrowedFd<'_>],
    outgoing: &Outgoing<'_>,
) -> Result<(), Cause> {
    let ([fd], true) = (fds, outgoing.is_bare()) else {
        return Err(NOT_OFFERED);
    };
    if link
        .pidfd
        .as_ref()
        .is_some_and(|pidfd| process::has_exited(pidfd.as_fd()))
    {
        return Err(Cause::NoSuchProcess);
    }
    sys::sendfd(link.number, link.pid, link.sig, fd.as_raw_fd()).map_err(explain)
}

fn explain(errno: Errno) -> Cause {
    match errno {
        Errno::NOSYS => {
            // The one answer that is about the kernel and not about this target or this moment.
            NUMBER.store(ABSENT, Ordering::Relaxed);
            NOT_OFFERED
        }
        Errno::BADF => Cause::BadDescriptor,
        Errno::CONNREFUSED => Cause::NotListening,
        Errno::AGAIN => Cause::QueueFull,
        Errno::PERM => Cause::NotPermitted(Denial::Signal),
        // The target's table, not this process's: on this path it is the queue.
        Errno::MFILE => Cause::TargetTableFull,
        other => other.into(),
    }
}

const UNKNOWN: i64 = -1;
const ABSENT: i64 = -2;
static NUMBER: AtomicI64 = AtomicI64::new(UNKNOWN);

/// The number that this kernel gave to the call. Never guessed: another kernel may have another
/// call there.
pub(crate) fn number() -> Option<i64> {
    match NUMBER.load(Ordering::Relaxed) {
        UNKNOWN => {
            let answer = advertised();
            // That the file cannot be opened at this moment says nothing about the kernel.
            if let Ok(number) = answer {
                NUMBER.store(number.unwrap_or(ABSENT), Ordering::Relaxed);
            }
            answer.ok().flatten()
        }
        ABSENT => None,
        number => Some(number),
    }
}

fn advertised() -> Result<Option<i64>, Errno> {
    let path = "/proc/sys/kernel/sendfd_nr";
    match rustix::fs::access(path, rustix::fs::Access::EXISTS) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    let mut buffer = [0; 16];
    let text = read_file(path, &mut buffer)?;
    let number = std::str::from_utf8(text).ok();
    Ok(number
        .and_then(|number| number.trim().parse().ok())
        .filter(|number| *number >= 0))
}
