//! The socket of a link, for the paths `pidfd` and `name`.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::Unsent;
use crate::error::Cause;
use crate::outgoing::Outgoing;
use crate::sys;
use crate::wait::timespec;

/// A socket and its cookie. A program may close every descriptor that it sees (daemons do) and open another
/// file at the number, which must be neither written to nor closed: the cookie tells.
#[derive(Debug)]
pub(crate) struct Socket {
    /// `None` only while it is dropped.
    fd: Option<OwnedFd>,
    /// What SO_COOKIE says of the socket; 0 on kernels that do not.
    cookie: AtomicU64,
}

impl Socket {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Socket {
            cookie: AtomicU64::new(sys::cookie(fd.as_fd()).unwrap_or(0)),
            fd: Some(fd),
        }
    }

    #[inline]
    fn get(&self) -> &OwnedFd {
        self.fd.as_ref().expect("it is taken when it is dropped")
    }

    /// Whether the number still is this socket's, in the table of the thread that asks.
    pub(crate) fn is_intact(&self) -> bool {
        let known = self.cookie.load(Ordering::Relaxed);
        known == 0 || sys::cookie(self.as_fd()) == Ok(known)
    }

    /// Whether the other end is open.
    pub(crate) fn is_connected(&self) -> bool {
        let mut fds = [PollFd::new(self.get(), PollFlags::empty())];
        let asked = poll(&mut fds, timespec(std::time::Duration::ZERO).as_ref());
        asked.is_ok()
            && !fds[0]
                .revents()
                .intersects(PollFlags::HUP | PollFlags::NVAL)
    }

    /// Makes the number mean `new`, at once, so that threads which are sending over it, or are
    /// interrupted by a signal handler that does, need no lock.
    pub(crate) fn replace(&self, new: &Socket) -> Result<(), Cause> {
        if !self.is_intact() {
            return Err(Cause::BadDescriptor);
        }
        sys::replace(self.as_fd(), new.get())?;
        let cookie = new.cookie.load(Ordering::Relaxed);
        self.cookie.store(cookie, Ordering::Relaxed);
        Ok(())
    }

    /// Becomes `new`, if that has the very number of this socket, which the program had closed: a number must
    /// not have two owners. Otherwise gives `new` back.
    pub(crate) fn regain(&self, new: Socket) -> Result<(), Socket> {
        if self.get().as_raw_fd() != new.get().as_raw_fd() {
            return Err(new);
        }
        let cookie = new.cookie.load(Ordering::Relaxed);
        self.cookie.store(cookie, Ordering::Relaxed);
        mem::forget(new);
        Ok(())
    }

    /// One system call, which never blocks.
    #[inline]
    pub(super) fn send(
        &self,
        fds: &[BorrowedFd<'_>],
        outgoing: &Outgoing<'_>,
    ) -> Result<(), Unsent> {
        let sent = sys::transmit(
            self.as_fd(),
            &outgoing.header().encode(),
            outgoing.data(),
            fds,
            outgoing.credentials(),
        );
        sent.map_err(|errno| match errno {
            Errno::AGAIN => Unsent::For(Cause::QueueFull),
            Errno::BADF | Errno::NOTSOCK => Unsent::For(Cause::BadDescriptor),
            Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED | Errno::NOTCONN => Unsent::Gone,
            Errno::PERM | Errno::INVAL => Unsent::Refused(errno),
            other => Unsent::For(other.into()),
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get().as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.is_intact() {
            mem::forget(self.fd.take());
        }
    }
}
