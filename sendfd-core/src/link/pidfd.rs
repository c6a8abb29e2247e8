//! Fetching the sending end of the target's inbox out of its table, with pidfd_getfd(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::process::{ForeignRawFd, PidfdGetfdFlags, pidfd_getfd};

use crate::address::Address;
use crate::error::{Cause, Denial};
use crate::marker::{self, Marker, Missing};
use crate::path::Paths;
use crate::process::{Process, own_pid};
use crate::sys;

const NOT_OFFERED: Cause = Cause::PathNotOffered(Paths::PIDFD);

/// The sending end of an inbox: one open file that the target and all its senders share.
#[derive(Debug)]
pub(crate) struct Link(pub(crate) OwnedFd);

/// # References
/// - [pidfd_getfd(2)](https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html)
pub(crate) fn reach(process: &Process, sig: i32) -> Result<Link, Cause> {
    let pidfd = process.pidfd().ok_or(NOT_OFFERED)?;
    if LACKING.load(Ordering::Relaxed) {
        return Err(NOT_OFFERED);
    }
    // A marker leads to an answer unless what it leads to is not the inbox.
    let found = marker::find(process, sig, |marker| match fetch(pidfd, process, marker) {
        Ok(tx) => Some(Ok(Link(tx))),
        Err(Cause::NotListening) => None,
        Err(cause) => Some(Err(cause)),
    });
    match found {
        Ok(answer) => answer,
        Err(Missing::Absent) => Err(Cause::NotListening),
        Err(Missing::Unreadable(Errno::ACCESS | Errno::PERM)) => {
            Err(Cause::NotPermitted(Denial::Ptrace))
        }
        // No /proc, or one that hides the processes of others.
        Err(Missing::Unreadable(Errno::NOENT)) => Err(NOT_OFFERED),
        Err(Missing::Unreadable(errno)) => Err(errno.into()),
    }
}

/// Fetches what the marker points at and makes sure that it is the inbox of that very process:
/// by then the number may have been closed and used again, and anybody can have given the process
/// a file that looks like a marker. Who made a socket pair, SO_PEERCRED says, and that cannot be
/// forged.
fn fetch(pidfd: BorrowedFd<'_>, process: &Process, marker: Marker) -> Result<OwnedFd, Cause> {
    let tx = get(pidfd, marker.tx).map_err(|errno| match errno {
        Errno::BADF => Cause::NotListening,
        Errno::PERM => Cause::NotPermitted(denial()),
        Errno::NOSYS => {
            // The one answer that is about the kernel and not about this target or this moment.
            LACKING.store(true, Ordering::Relaxed);
            NOT_OFFERED
        }
        other => other.into(),
    })?;
    let is_inbox = rustix::fs::fstat(&tx).is_ok_and(|stat| stat.st_ino == marker.inode)
        && Address::is_inbox(&tx, marker.sig)
        && sys::peer_credentials(tx.as_fd()).is_ok_and(|peer| peer.pid == process.pid());
    if is_inbox {
        Ok(tx)
    } else {
        Err(Cause::NotListening)
    }
}

fn get(pidfd: BorrowedFd<'_>, number: i32) -> Result<OwnedFd, Errno> {
    // The number is one of the target's table, not of ours.
    let number: ForeignRawFd = number;
    pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
}

/// The kernel lacks pidfd_getfd, or a filter pretends that it does.
static LACKING: AtomicBool = AtomicBool::new(false);

/// Who refused. The kernel lets every process fetch from itself, so where even that is refused, a
/// filter stands before the kernel.
fn denial() -> Denial {
    let own = Process::open(own_pid()).ok();
    let own = own.as_ref().and_then(Process::pidfd);
    if own.is_some_and(|own| get(own, std::os::fd::AsRawFd::as_raw_fd(&own)).is_err()) {
        return Denial::Seccomp;
    }
    match yama_scope() {
        Some(0) | None => Denial::Ptrace,
        Some(scope) => Denial::Yama(scope),
    }
}

/// # References
/// - [Yama](https://docs.kernel.org/admin-guide/LSM/Yama.html)
fn yama_scope() -> Option<u8> {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?;
    scope.trim().parse().ok()
}
