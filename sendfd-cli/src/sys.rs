//! Numbers of descriptors that other programs chose, and what a child does before exec: the one file here
//! that may say unsafe.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::fcntl_getfl;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{
    Resource, Rlimit, Signal, getpid, getppid, set_parent_process_death_signal, setrlimit,
};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::pool::user::User;

fn borrow<'a>(number: RawFd) -> io::Result<BorrowedFd<'a>> {
    if number < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: not -1. Nothing is assumed of it but that the kernel may be asked about it, and the
    // kernel answers EBADF where it is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfl(fd)?;
    Ok(fd)
}

/// A duplicate of what this process was started with at `number`.
pub(crate) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(borrow(number)?, 3)?)
}

/// Takes over what this process was started with at `number`, which nothing else here owns.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    fcntl_setfd(borrow(number)?, FdFlags::CLOEXEC)?;
    // SAFETY: open, and by the activation protocol ours to close.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What the runtime polls for reading.
pub(crate) fn polled(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is the same descriptor from here until it is dropped, with what polls it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Puts duplicates of `fds` at the numbers that the next program expects, open across exec. What was
/// at these numbers is closed, so that nothing of this process may own them any more.
pub(crate) fn place(fds: Vec<OwnedFd>, numbers: &[RawFd]) -> io::Result<()> {
    // First out of each other's way.
    let above = numbers.iter().max().map_or(3, |number| number + 1);
    let moved: Vec<OwnedFd> = fds
        .iter()
        .map(|fd| fcntl_dupfd_cloexec(fd, above))
        .collect::<Result<_, _>>()?;
    drop(fds);
    for (fd, number) in moved.iter().zip(numbers) {
        // SAFETY: dup2 touches no memory. The caller promises that nobody owns the number.
        if unsafe { libc::dup2(fd.as_raw_fd(), *number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Prepares a worker: a process group of its own, killed with the pool, with the limit of descriptors that
/// the pool was started with, as another user if it says so.
pub(crate) fn before_exec(command: &mut Command, limit: Option<Rlimit>, user: Option<User>) {
    let parent = getpid();
    command.process_group(0);
    // SAFETY: between fork and exec. Nothing is allocated and no lock is taken: system calls alone.
    unsafe {
        command.pre_exec(move || {
            if let Some(limit) = &limit {
                setrlimit(Resource::Nofile, *limit)?;
            }
            if let Some(user) = &user {
                change_user(user)?;
            }
            // After a change of the user, which takes it back.
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The pool may have ended before that.
            match getppid() {
                Some(pid) if pid == parent => Ok(()),
                _ => Err(rustix::io::Errno::SRCH.into()),
            }
        });
    }
}

/// Becomes another user, with all groups of that user and none of the rights there were.
pub(crate) fn change_user(user: &User) -> io::Result<()> {
    let check = |answer: i32| match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: the list lives as long as the call.
    check(unsafe { libc::setgroups(user.groups.len(), user.groups.as_ptr()) })?;
    // SAFETY: no memory is touched.
    check(unsafe { libc::setresgid(user.gid, user.gid, user.gid) })?;
    // SAFETY: no memory is touched.
    check(unsafe { libc::setresuid(user.uid, user.uid, user.uid) })
}
