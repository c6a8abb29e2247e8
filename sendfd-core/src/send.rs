//! Sending with one call.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::cache;
use crate::error::{Attempt, Cause, Error, Result};
use crate::outgoing::{Key, Outgoing, SendOptions};
use crate::reach;
use crate::target::Target;
use crate::wait::Deadline;
use crate::{process, signal};

/// Sends a duplicate of `fd` to process `pid`, which listens on `sig`. Does not block.
///
/// `fd` is only borrowed. Once this returns, the kernel holds the duplicate for the target: the
/// caller may close its own.
///
/// # Errors
/// As [`send_with`].
pub fn send(pid: i32, sig: i32, fd: impl AsFd) -> Result<()> {
    send_with(pid, sig, &[fd.as_fd()], &SendOptions::default())
}

/// Sends duplicates of up to [`MAX_FDS`](crate::MAX_FDS) descriptors in one message.
///
/// Blocks only as long as [`SendOptions::wait`] allows. `fds` are only borrowed. On an error,
/// nothing was sent.
///
/// The target is kept open in a small cache of this process, so that sending to it again is one
/// system call; a cached target costs one descriptor. For hot loops, see [`Target`]. Threads may
/// call this at the same time. Not for use in a signal handler: see [`Target::send`].
///
/// # Errors
/// - `EINVAL`: `sig` is not a real-time signal, `pid` is below 1, there are no descriptors or more
///   than 253, or `SENDFD_PATHS` names no path.
/// - `EBADF`: a descriptor is not open.
/// - `ESRCH`: no such process, or it has exited.
/// - `ECONNREFUSED`: the process lives but does not listen on `sig`.
/// - `EPERM`: the target does not accept this process's user, or every path to it is forbidden.
/// - `EAGAIN`: the target's queue is full, and `wait` is [`Wait::Never`].
/// - `ETIMEDOUT`: the target did not listen, or made no room, in time.
/// - `EINTR`: a signal handler ran while waiting.
/// - `ETOOMANYREFS`: too many of this user's descriptors are in flight (RLIMIT_NOFILE).
/// - `EMSGSIZE`: too much data.
/// - `EOPNOTSUPP`: a path was insisted on that this kernel or target does not offer.
/// - `EMFILE`, `ENFILE`, `ENOMEM`: as the kernel says.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SCM_RIGHTS`
pub fn send_with(
    pid: i32,
    sig: i32,
    fds: &[BorrowedFd<'_>],
    options: &SendOptions<'_>,
) -> Result<()> {
    let attempt = Attempt::Send { pid, sig };
    send_cached(pid, sig, fds, options).map_err(|cause| Error::new(attempt, cause))
}

fn send_cached(
    pid: i32,
    sig: i32,
    fds: &[BorrowedFd<'_>],
    options: &SendOptions<'_>,
) -> std::result::Result<(), Cause> {
    signal::check(sig)?;
    process::check(pid)?;
    // Bad arguments are found before anything is opened.
    Outgoing::new(sig, fds.len(), options.tag, options.data, None)?;
    let deadline = Deadline::after(options.wait);
    let paths = reach::allowed(options.paths)?;
    let key = Key { pid, sig, paths };

    if let Some(target) = cache::get(key) {
        match target.send_until(fds, options, deadline) {
            // What was opened is gone, but the pid may be somebody else's by now.
            Err(Cause::NoSuchProcess) => cache::forget(key),
            result => return result,
        }
    }
    let target = Arc::new(Target::open_until(key, deadline)?);
    target.send_until(fds, options, deadline)?;
    cache::put(key, target);
    Ok(())
}
