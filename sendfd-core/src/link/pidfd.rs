//! Fetching the sending end of the target's inbox out of its table, with pidfd_getfd(2).

use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrayvec::ArrayString;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use rustix::process::{ForeignRawFd, PidfdGetfdFlags, pidfd_getfd};

use super::Socket;
use crate::address::Address;
use crate::error::{Cause, Denial};
use crate::marker::{self, Marker, Missing};
use crate::path::Paths;
use crate::process::{Process, Seen, own_pid, read_file};
use crate::sys;
use crate::wait::timespec;

const NOT_OFFERED: Cause = Cause::PathNotOffered(Paths::PIDFD);

/// Fetches the sending end of an inbox: one open file that the target and all its senders share.
///
/// # References
/// - [pidfd_getfd(2)](https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html)
pub(crate) fn reach(process: &Seen<'_>, sig: i32) -> Result<Socket, Cause> {
    let pidfd = process.pidfd().ok_or(NOT_OFFERED)?;
    if LACKING.load(Ordering::Relaxed) {
        return Err(NOT_OFFERED);
    }
    if makes_wait(process) {
        return Err(Cause::NotListening);
    }
    // A marker that does not lead to the inbox is passed over; any other answer ends the search.
    let found = marker::find(process, sig, |marker| match fetch(pidfd, process, marker) {
        Ok(tx) => Some(Ok(Socket::new(tx))),
        Err(Cause::NotListening) => None,
        Err(cause) => Some(Err(cause)),
    });
    let refusal = match found {
        Ok(Ok(socket)) => return Ok(socket),
        Ok(Err(cause)) => cause,
        Err(Missing::Absent) => Cause::NotListening,
        Err(Missing::LaterVersion) => Cause::LaterVersion,
        Err(Missing::Unreadable(Errno::ACCESS | Errno::PERM)) => {
            Cause::NotPermitted(Denial::Ptrace)
        }
        // No /proc, or one that hides the processes of others.
        Err(Missing::Unreadable(Errno::NOENT)) => Cause::NoProc,
        Err(Missing::Unreadable(errno)) => errno.into(),
    };
    // /proc and pidfd_getfd(2) look into the table of the main thread, which it has given up by exiting.
    Err(match refusal {
        Cause::NotListening | Cause::NotPermitted(_) if process.lost_its_main_thread() => {
            Cause::MainThreadLeft
        }
        other => other,
    })
}

/// Fetches what the marker points at and makes sure that it is the inbox of that very process: by then
/// the number may have been closed and used again, and anybody can have given the process a file that
/// looks like a marker. SO_PEERCRED says who made a socket pair, and cannot be forged.
///
/// Nothing is fetched that is not a socket, and nothing is asked that a file system answers: one in user
/// space (FUSE) can keep the answer back for ever.
fn fetch(pidfd: BorrowedFd<'_>, process: &Seen<'_>, marker: Marker) -> Result<OwnedFd, Cause> {
    if !is_socket(process, marker) || makes_wait(process) {
        return Err(Cause::NotListening);
    }
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
    let is_inbox = Address::is_inbox(&tx, marker.sig)
        && sys::peer_credentials(tx.as_fd()).is_ok_and(|maker| {
            maker.pid == process.pid() && process.may_have_made(maker.uid)
        })
        // Asked last, of what is known to be a socket.
        && rustix::fs::fstat(&tx).is_ok_and(|stat| stat.st_ino == marker.inode)
        && carries_nothing(&tx);
    if is_inbox && is_shut_down(&tx) {
        return Err(Cause::InboxLost);
    }
    if is_inbox {
        return Ok(tx);
    }
    // Closing it may take as long as its owner likes, so that is not done here.
    let close_elsewhere = std::thread::Builder::new().stack_size(64 * 1024);
    let _ = close_elsewhere.spawn(move || drop(tx));
    Err(Cause::NotListening)
}

/// Whether looking into another user's process would take as long as that likes, because it executes another
/// program: in which it keeps no inbox. It may begin with that just after it was asked.
fn makes_wait(process: &Seen<'_>) -> bool {
    process.is_of_another_user() && process.is_executing()
}

/// Whether the number in the marker is the socket that it says, by its link in /proc.
fn is_socket(process: &Seen<'_>, marker: Marker) -> bool {
    let mut path = ArrayString::<48>::new();
    let Ok(number) = process.in_proc() else {
        return false;
    };
    let _ = write!(path, "/proc/{number}/fd/{}", marker.tx);
    let mut wanted = ArrayString::<32>::new();
    let _ = write!(wanted, "socket:[{}]", marker.inode);
    let mut link = [MaybeUninit::uninit(); 64];
    let read = rustix::fs::readlinkat_raw(rustix::fs::CWD, path.as_str(), &mut link);
    read.is_ok_and(|(link, _)| link == wanted.as_bytes())
}

/// Shuts a sending end down for reading, and says whether nothing was sent to it: whoever closes that end
/// last would have to close what was. Besides, once this direction is shut, poll(2) reports POLLHUP here
/// when a receiver retires, which shuts the other.
fn carries_nothing(tx: &OwnedFd) -> bool {
    let closed = shutdown(tx, Shutdown::Read);
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    closed.is_ok() && recv(tx, &mut [0_u8; 1][..], flags).is_ok_and(|(_, length)| length == 0)
}

/// Whether somebody who fetched it, too, has ended it for all. The receiver makes another one when it looks.
fn is_shut_down(tx: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(tx, PollFlags::empty())];
    let asked = poll(&mut fds, timespec(Duration::ZERO).as_ref());
    asked.is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

fn get(pidfd: BorrowedFd<'_>, number: i32) -> Result<OwnedFd, Errno> {
    // The number is one of the target's table, not of ours.
    let number: ForeignRawFd = number;
    pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
}

/// The kernel lacks pidfd_getfd, or a filter pretends that it does.
static LACKING: AtomicBool = AtomicBool::new(false);

/// Who refused. The kernel lets every process fetch from itself: where even that is refused, it was a
/// seccomp filter.
fn denial() -> Denial {
    let own = Process::open(own_pid()).ok();
    let own = own.as_ref().and_then(Process::pidfd);
    if own.is_some_and(|own| get(own, own.as_raw_fd()).is_err()) {
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
    let mut buffer = [0; 16];
    let scope = read_file("/proc/sys/kernel/yama/ptrace_scope", &mut buffer).ok()?;
    std::str::from_utf8(scope).ok()?.trim().parse().ok()
}
