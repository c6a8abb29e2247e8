//! What is sent, where to, and how: a message on its way out.

use crate::credentials::Credentials;
use crate::error::Cause;
use crate::limits::{MAX_DATA, MAX_FDS};
use crate::path::Paths;
use crate::signal::Port;
use crate::wait::{Deadline, Wait, WaitFor};
use crate::wire::{Header, INLINE_DATA};

/// What goes with the descriptors, and how.
///
/// ```
/// use std::time::Duration;
/// use sendfd_core::{SendOptions, Wait};
///
/// let options = SendOptions::new()
///     .wait(Wait::For(Duration::from_secs(5)))
///     .tag(7)
///     .data(b"hello");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SendOptions<'a> {
    pub(crate) paths: Paths,
    pub(crate) wait: Wait,
    pub(crate) wait_for: WaitFor,
    pub(crate) tag: u64,
    pub(crate) data: &'a [u8],
}

impl<'a> SendOptions<'a> {
    /// All paths, no waiting, tag 0 and no data.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The paths that may be used; empty for all. If none of these leads to the target, no other is tried.
    #[must_use]
    pub fn paths(self, paths: impl Into<Paths>) -> Self {
        let paths = paths.into();
        SendOptions { paths, ..self }
    }

    /// How long to wait for the target to start listening, for room in its queue, and for
    /// descriptors in flight.
    #[must_use]
    pub fn wait(self, wait: Wait) -> Self {
        SendOptions { wait, ..self }
    }

    /// For which of these to wait.
    #[must_use]
    pub fn wait_for(self, wait_for: WaitFor) -> Self {
        SendOptions { wait_for, ..self }
    }

    /// A number for the receiver.
    #[must_use]
    pub fn tag(self, tag: u64) -> Self {
        SendOptions { tag, ..self }
    }

    /// Bytes for the receiver, at most [`MAX_DATA`]. Above 4096 they travel in a
    /// sealed memfd, which is made when sending: both processes need a free number for as long as they
    /// hold it.
    #[must_use]
    pub fn data(self, data: &'a [u8]) -> Self {
        SendOptions { data, ..self }
    }
}

/// How a target is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct TargetOptions {
    pub(crate) paths: Paths,
    pub(crate) wait: Wait,
    pub(crate) wait_for: WaitFor,
}

impl TargetOptions {
    /// All paths and no waiting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The paths that may be used; empty for all. If none of these leads to the target, no other is tried.
    #[must_use]
    pub fn paths(self, paths: impl Into<Paths>) -> Self {
        let paths = paths.into();
        TargetOptions { paths, ..self }
    }

    /// How long to wait for the target to start listening.
    #[must_use]
    pub fn wait(self, wait: Wait) -> Self {
        TargetOptions { wait, ..self }
    }

    /// Whether to wait for a target that does not listen.
    #[must_use]
    pub fn wait_for(self, wait_for: WaitFor) -> Self {
        TargetOptions { wait_for, ..self }
    }
}

/// What may be waited for, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) deadline: Deadline,
    pub(crate) wait_for: WaitFor,
}

impl Patience {
    #[inline]
    pub(crate) fn new(wait: Wait, wait_for: WaitFor) -> Self {
        Patience {
            deadline: Deadline::after(wait),
            wait_for,
        }
    }

    /// No waiting: what is asynchronous waits in its runtime.
    #[cfg(feature = "tokio")]
    pub(crate) const NONE: Patience = Patience {
        deadline: Deadline::Past,
        wait_for: WaitFor::Room,
    };

    /// Whether waiting can help a target that was not reached.
    pub(crate) fn covers(&self, cause: Cause) -> bool {
        match cause {
            Cause::NotListening | Cause::AddressTaken { .. } => self.wait_for == WaitFor::Listening,
            Cause::QueueFull | Cause::InboxLost => true,
            _ => false,
        }
    }
}

/// What a target was opened by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) pid: u32,
    pub(crate) port: Port,
    pub(crate) paths: Paths,
}

/// A message on its way out, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    header: Header,
    data: &'a [u8],
    /// The sender. With `None` the kernel puts it in.
    credentials: Option<Credentials>,
}

impl<'a> Outgoing<'a> {
    #[inline]
    pub(crate) fn new(port: Port, nfds: usize, tag: u64, data: &'a [u8]) -> Result<Self, Cause> {
        let sealed = data.len() > INLINE_DATA;
        let nfds = match u16::try_from(nfds) {
            Ok(0) => return Err(Cause::NoDescriptors),
            Ok(count) if nfds + usize::from(sealed) <= MAX_FDS => count,
            _ => return Err(Cause::TooManyDescriptors(nfds)),
        };
        let data_len = match u32::try_from(data.len()) {
            Ok(length) if data.len() <= MAX_DATA => length,
            _ => return Err(Cause::DataTooLong(data.len())),
        };
        let header = Header {
            sig: port.signal(),
            nfds,
            data_len,
            tag,
            sealed,
        };
        Ok(Outgoing {
            header,
            data: if sealed { &[] } else { data },
            credentials: None,
        })
    }

    /// Whether the data is too long for the record and goes in a memfd, as a descriptor more.
    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        self.header.sealed
    }

    /// The same record with the sender in it.
    #[inline]
    pub(crate) fn named(self, credentials: Option<Credentials>) -> Self {
        Outgoing {
            credentials,
            ..self
        }
    }

    /// Whether it is no more than sendfd(2) can carry: one descriptor and nothing else.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.header.nfds == 1 && self.header.tag == 0 && self.header.data_len == 0
    }

    /// What the record says of itself.
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes that follow the header.
    #[inline]
    pub(crate) fn data(&self) -> &'a [u8] {
        self.data
    }

    /// The sender, unless the kernel puts it in.
    #[inline]
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        self.credentials
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let port = Port::new(3).expect("a port");
        let outgoing = |nfds, data: &[u8]| Outgoing::new(port, nfds, 0, data).map(drop);
        assert_eq!(outgoing(0, b""), Err(Cause::NoDescriptors));
        assert_eq!(outgoing(1, b""), Ok(()));
        assert_eq!(outgoing(MAX_FDS, &[0; INLINE_DATA]), Ok(()));
        let long = vec![0; MAX_DATA + 1];
        // The memfd takes the place of one.
        assert_eq!(outgoing(MAX_FDS - 1, &long[1..]), Ok(()));
        assert_eq!(
            outgoing(MAX_FDS, &long[1..]),
            Err(Cause::TooManyDescriptors(MAX_FDS))
        );
        assert_eq!(
            outgoing(MAX_FDS + 1, b""),
            Err(Cause::TooManyDescriptors(254))
        );
        assert_eq!(
            outgoing(70_000, b""),
            Err(Cause::TooManyDescriptors(70_000))
        );
        assert_eq!(outgoing(1, &long), Err(Cause::DataTooLong(MAX_DATA + 1)));
    }
}
