//! Sending over a socket, for both of the paths that end in one.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::error::Cause;
use crate::limits::MAX_FDS;
use crate::outgoing::Outgoing;

/// One system call, which never blocks.
#[inline]
pub(super) fn send(
    socket: &OwnedFd,
    fds: &[BorrowedFd<'_>],
    outgoing: &Outgoing<'_>,
) -> Result<(), Cause> {
    send_record(socket, fds, outgoing).map_err(|errno| match errno {
        Errno::AGAIN => Cause::QueueFull,
        Errno::BADF => Cause::BadDescriptor,
        Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED | Errno::NOTCONN => Cause::ShutDown,
        other => other.into(),
    })
}

/// Puts one record into the queue behind `socket`. One system call, which never blocks and raises
/// no SIGPIPE. The flags are per call because the socket may be one open file with many users.
///
/// # References
/// - [sendmsg(2)](https://man7.org/linux/man-pages/man2/sendmsg.2.html)
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SCM_RIGHTS`
#[inline]
fn send_record(
    socket: &OwnedFd,
    fds: &[BorrowedFd<'_>],
    outgoing: &Outgoing<'_>,
) -> Result<(), Errno> {
    let header = outgoing.header().encode();
    let parts = [IoSlice::new(&header), IoSlice::new(outgoing.data())];
    let parts = if outgoing.data().is_empty() {
        &parts[..1]
    } else {
        &parts
    };

    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS), ScmCredentials(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let mut fits = control.push(SendAncillaryMessage::ScmRights(fds));
    if let Some(credentials) = outgoing.credentials() {
        fits &= control.push(SendAncillaryMessage::ScmCredentials(credentials));
    }
    debug_assert!(fits, "the space is for the most that a checked message has");

    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    // A record goes whole or not at all, so the count that comes back says nothing.
    sendmsg(socket, parts, &mut control, flags).map(drop)
}
