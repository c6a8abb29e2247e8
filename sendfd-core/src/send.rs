//! Sending with one call.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::cache;
use crate::error::{Attempt, Cause, Error, Result};
use crate::outgoing::{Key, Outgoing, Patience, SendOptions};
use crate::passengers::Passengers;
use crate::process;
use crate::reach;
use crate::signal::Port;
use crate::target::Target;

/// Sends a duplicate of `fd` to process `pid`, which listens at `port`. Does not block.
///
/// `fd` is only borrowed. Once this returns, the kernel holds the duplicate for the target: the
/// caller may close its own.
///
/// # Errors
/// As [`send_with`].
pub fn send(pid: u32, port: Port, fd: impl AsFd) -> Result<()> {
    send_with(pid, port, &[fd.as_fd()], &SendOptions::default())
}

/// Sends duplicates of up to [`MAX_FDS`](crate::MAX_FDS) descriptors in one message.
///
/// Blocks only as long as [`SendOptions::wait`] allows. `fds` are only borrowed. On an error,
/// nothing was sent.
///
/// The target is kept open in a small cache of this process, so that sending to it again is two system
/// calls, of which one looks whether the descriptor in the cache was closed by the program; a cached
/// target costs one descriptor. For hot loops, see [`Target`]. Threads may
/// call this at the same time. Not for use in a signal handler: see [`Target::send`].
///
/// # Errors
/// - `EINVAL`: `pid` is 0, there are no descriptors or more
///   than 253 (252 beside more than 4096 bytes of data), or `SENDFD_PATHS` names no path.
/// - `EBADF`: a descriptor is not open.
/// - `ESRCH`: no such process, or it has exited.
/// - `ECONNREFUSED`: the process lives but does not listen at `port`.
/// - `EPERM`: the target does not accept this process's user, or every path to it is forbidden.
/// - `EAGAIN`: the target's queue is full, and no waiting was allowed.
/// - `ETIMEDOUT`: the target did not listen, or made no room, in time, or too many descriptors stayed
///   in flight.
/// - `EINTR`: a signal handler ran while waiting.
/// - `ETOOMANYREFS`: too many of this user's descriptors are in flight (RLIMIT_NOFILE).
/// - `EMSGSIZE`: more than [`MAX_DATA`](crate::MAX_DATA) bytes of data; or above 4096, and more than
///   RLIMIT_FSIZE allows.
/// - `EOPNOTSUPP`: a path was insisted on that this kernel or target does not offer; or there are more
///   than 4096 bytes of data, and this process may not make a memfd.
/// - `EMFILE`: a send that has to wait duplicates each descriptor first, and the descriptor table is
///   full; or as the kernel says.
/// - `ENFILE`, `ENOMEM`: as the kernel says.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SCM_RIGHTS`
pub fn send_with(
    pid: u32,
    port: Port,
    fds: &[BorrowedFd<'_>],
    options: &SendOptions<'_>,
) -> Result<()> {
    send_cached(pid, port, fds, options).map_err(|cause| {
        let sig = port.signal();
        let cause = reach::with_neighbours(cause, pid, sig);
        Error::new(Attempt::Send { pid, sig }, cause)
    })
}

fn send_cached(
    pid: u32,
    port: Port,
    fds: &[BorrowedFd<'_>],
    options: &SendOptions<'_>,
) -> std::result::Result<(), Cause> {
    process::check(pid)?;
    // Bad arguments are found before anything is opened.
    Outgoing::new(port, fds.len(), options.tag, options.data)?;
    let patience = Patience::new(options.wait, options.wait_for);
    let paths = reach::allowed(options.paths)?;
    let key = Key { pid, port, paths };
    let mut passengers = Passengers::new(fds);

    if let Some(target) = cache::get(key) {
        match target.send_until(&mut passengers, options, patience) {
            // What was opened is gone, but the pid may be somebody else's by now.
            Err(Cause::NoSuchProcess) => cache::forget(key),
            // Another path may lead there.
            Err(Cause::InboxLost) => cache::forget(key),
            result => return result,
        }
    }
    let target = Arc::new(Target::open_until(key, &mut passengers, patience)?);
    target.send_until(&mut passengers, options, patience)?;
    cache::put(key, target);
    Ok(())
}
