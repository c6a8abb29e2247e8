//! What a port is at work on, for a child that is forked in a signal handler meanwhile.
//!
//! The child returns from the handler and goes on where its parent was interrupted, with copies of
//! its parent's descriptors. It must neither receive what was sent to its parent nor shut its sockets down.
//! So before either, [`Work::begin`] notes the number of the socket. If the fork came before that,
//! `begin` says so. If it comes after, the handler of fork(2) finds the number and puts a socket there that
//! is connected to nobody, so that the system call that follows in the child has no effect.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering, compiler_fence};

use rustix::net::{Shutdown, shutdown};

use crate::error::Cause;
use crate::sys;

#[derive(Debug)]
pub(crate) struct Work {
    /// The numbers of the socket, -1 for none, and of the epoll instance.
    socket: AtomicI32,
    set: AtomicI32,
    /// Whether this process is such a child.
    orphaned: AtomicBool,
}

impl Work {
    pub(crate) const fn new() -> Self {
        Work {
            socket: AtomicI32::new(-1),
            set: AtomicI32::new(-1),
            orphaned: AtomicBool::new(false),
        }
    }

    /// To be called before something is taken from `socket`, or done to it that the parent would feel.
    #[inline]
    pub(crate) fn begin(&self, socket: BorrowedFd<'_>) -> Result<(), Cause> {
        self.socket.store(socket.as_raw_fd(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        if self.orphaned.load(Ordering::Relaxed) {
            return Err(Cause::Inherited);
        }
        Ok(())
    }

    /// To be called before a socket is closed, and when the work is done: the number may be another
    /// file's from then on.
    #[inline]
    pub(crate) fn end(&self) {
        self.socket.store(-1, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    /// Shuts `socket` down if it is this process's own. What is queued there can still be read; both
    /// ways, for one way could not be told by poll(2) at the other end.
    pub(crate) fn shut_down(&self, socket: &OwnedFd) {
        if self.begin(socket.as_fd()).is_ok() {
            let _ = shutdown(socket, Shutdown::Both);
        }
    }

    /// In the child: from now on nothing is taken.
    pub(crate) fn orphan(&self) {
        self.orphaned.store(true, Ordering::Relaxed);
        sys::replace_with_empty_set(self.set.load(Ordering::Relaxed));
        sys::replace_with_dead_socket(self.socket.load(Ordering::Relaxed));
    }

    /// Whether this is such a child, so that what was interrupted has to close its port. To be asked once
    /// that is done.
    #[inline]
    pub(crate) fn is_orphaned(&self) -> bool {
        self.orphaned.load(Ordering::Relaxed)
    }

    /// The place is for a port of this process's own from now on.
    pub(crate) fn adopt(&self, set: RawFd) {
        self.orphaned.store(false, Ordering::Relaxed);
        self.set.store(set, Ordering::Relaxed);
        self.end();
    }
}
