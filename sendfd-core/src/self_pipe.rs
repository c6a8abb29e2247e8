//! Where the kernel has sendfd(2), a receiver catches the signal itself: a handler writes the number
//! of the new descriptor, and who sent it, into a pipe that the receiver reads beside its inbox. A
//! signalfd serves programs that block the signal in all threads.
//!
//! The kernel's call needs no more of a target than that, so that programs which send with the bare
//! call reach a receiver too.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::credentials::Credentials;
use crate::error::Cause;
use crate::sys::{self, Caught, Disposition};

/// The most that the kernel lets an ordinary user's pipe hold, by default.
const MAX_PIPE: usize = 1 << 20;
const DEFAULT_PIPE: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct SelfPipe {
    sig: i32,
    /// Readable when the handler has run.
    pub(crate) caught: OwnedFd,
    /// What the handler writes into. It knows the number.
    write_end: OwnedFd,
    /// Readable while the signal is pending because every thread blocks it.
    pub(crate) pending: OwnedFd,
    /// Whether a fork left what is in the pipe to the parent.
    inherited: bool,
}

impl SelfPipe {
    /// `limit` is how many descriptors the process can have.
    pub(crate) fn open(sig: i32, limit: u64) -> Result<Self, Cause> {
        if sys::disposition(sig)? == Disposition::Handled {
            return Err(Cause::SignalTaken);
        }
        let (caught, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // With a record for each descriptor that the table can hold, it is never full. Where that
        // is not to be had, the handler makes the signal wait.
        let wanted = usize::try_from(limit)
            .unwrap_or(MAX_PIPE)
            .saturating_mul(Caught::LEN);
        if wanted > DEFAULT_PIPE {
            let _ = fcntl_setpipe_size(&caught, wanted.min(MAX_PIPE));
        }
        let pending = sys::signalfd(sig)?;
        sys::catch(sig, write_end.as_fd())?;
        Ok(SelfPipe {
            sig,
            caught,
            write_end,
            pending,
            inherited: false,
        })
    }

    /// The next descriptor that the handler was told of.
    pub(crate) fn next_caught(&self) -> Result<(OwnedFd, Credentials), Errno> {
        sys::read_caught(self.caught.as_fd())
    }

    /// The next descriptor that a blocked signal carries.
    pub(crate) fn next_pending(&self) -> Result<(OwnedFd, Credentials), Errno> {
        sys::read_pending(self.pending.as_fd())
    }

    /// In a forked child: lets go of the pipe, which is the parent's too, without reading from it.
    pub(crate) fn disown(mut self) {
        self.inherited = true;
    }
}

impl Drop for SelfPipe {
    fn drop(&mut self) {
        if self.inherited {
            return sys::release(self.sig, self.write_end.as_fd());
        }
        // Ignored from here on: the kernel then refuses further sends, and no signal that is still
        // pending kills the process later. What has arrived by then is closed.
        while self.next_pending().is_ok() {}
        sys::ignore(self.sig);
        while self.next_caught().is_ok() {}
        sys::release(self.sig, self.write_end.as_fd());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    /// Raises the signal as the kernel's call would: a duplicate, and its number in the signal.
    fn arrive(sig: i32, sender: Credentials) -> i32 {
        let fd = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 0).expect("a duplicate");
        let number = fd.as_raw_fd();
        sys::queue_to_self(sig, sender, fd.as_fd()).expect("queued");
        std::mem::forget(fd);
        number
    }

    #[test]
    fn what_the_handler_is_told_comes_out_once_and_in_order() {
        let sig = crate::rtmax() - 3;
        let pipe = SelfPipe::open(sig, 1024).expect("a pipe");
        assert_eq!(SelfPipe::open(sig, 1024).map(drop), Err(Cause::SignalTaken));
        for nth in 1..100 {
            let sender = Credentials {
                pid: nth,
                uid: 7,
                gid: u32::MAX,
            };
            let number = arrive(sig, sender);
            // Another thread may be the one that handles it.
            let (fd, from) = loop {
                if let Ok(next) = pipe.next_caught() {
                    break next;
                }
                std::thread::yield_now();
            };
            assert_eq!((fd.as_raw_fd(), from), (number, sender));
        }
        assert_eq!(pipe.next_caught().map(drop), Err(Errno::AGAIN));
        assert_eq!(pipe.next_pending().map(drop), Err(Errno::AGAIN));
        drop(pipe);
        assert_eq!(sys::disposition(sig), Ok(Disposition::Default));
    }
}
