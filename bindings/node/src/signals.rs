//! Signal mode: each descriptor that is sent raises the real-time signal in this process.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use sendfd_core::Port;

use crate::Failure;
use crate::sys::own;
use crate::sys::signal::{
    Taken, block_everywhere, brings_descriptor, is_plausible, signalfd, take,
};

/// One signal, as long as this process is in signal mode there.
pub(crate) struct Signals {
    port: Port,
    signalfd: OwnedFd,
    /// Whether senders are refused, and what is pending is all there is.
    ended: bool,
    dropped: u64,
}

impl Signals {
    pub(crate) fn listen(sig: i32) -> Result<Self, Failure> {
        /// One thread at a time changes how a signal is handled.
        static STARTING: Mutex<()> = Mutex::new(());

        let port = Port::from_signal(sig)?;
        let _one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = block_everywhere(sig).and_then(|()| signalfd(sig));
        let signalfd = prepared.map_err(|error| Failure {
            errno: -error.raw_os_error().unwrap_or(libc::EAGAIN),
            message: format!("cannot listen at signal {sig}: {error}"),
            hint: None,
        })?;
        sendfd_core::listen(port)?;
        Ok(Signals {
            port,
            signalfd,
            ended: false,
            dropped: 0,
        })
    }

    /// Gives up to `limit` signals to `put`, and answers how many; nothing at the end.
    pub(crate) fn receive(
        &mut self,
        limit: usize,
        mut put: impl FnMut(usize, Taken, OwnedFd),
    ) -> Option<usize> {
        let mut count = 0;
        while count < limit {
            let Some(taken) = take(&self.signalfd) else {
                break;
            };
            match descriptor(taken) {
                Some(fd) => {
                    put(count, taken, fd);
                    count += 1;
                }
                None => self.dropped += 1,
            }
        }
        (count > 0 || !self.ended).then_some(count)
    }

    /// Ends signal mode. What was raised already can still be received.
    pub(crate) fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            // It fails only in a forked child, which does not listen.
            let _ = sendfd_core::unlisten(self.port);
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.end();
        while let Some(taken) = take(&self.signalfd) {
            drop(descriptor(taken));
        }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.signalfd.as_raw_fd()
    }
}

/// What the signal brought, unless somebody made it up.
fn descriptor(taken: Taken) -> Option<OwnedFd> {
    (brings_descriptor(taken.code) && is_plausible(taken.value)).then(|| own(taken.value))
}
