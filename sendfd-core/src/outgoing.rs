//! What is sent, where to, and how: a message on its way out.

use rustix::net::UCred;

use crate::error::Cause;
use crate::limits::{MAX_DATA, MAX_FDS};
use crate::path::Paths;
use crate::wait::Wait;
use crate::wire::Header;

/// What goes with the descriptors, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendOptions<'a> {
    /// The paths that may be used; empty for all. An explicit wish is never replaced by another.
    pub paths: Paths,
    /// How long to wait for the target to start listening and for room in its queue.
    pub wait: Wait,
    /// A number for the receiver.
    pub tag: u64,
    /// Bytes for the receiver, at most [`MAX_DATA`](crate::MAX_DATA).
    pub data: &'a [u8],
}

/// What a target was opened by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) pid: i32,
    pub(crate) sig: i32,
    pub(crate) paths: Paths,
}

/// A message on its way out, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    header: Header,
    data: &'a [u8],
    /// Set where the kernel would name another user than the one whose rights were checked.
    credentials: Option<UCred>,
}

impl<'a> Outgoing<'a> {
    #[inline]
    pub(crate) fn new(
        sig: i32,
        nfds: usize,
        tag: u64,
        data: &'a [u8],
        credentials: Option<UCred>,
    ) -> Result<Self, Cause> {
        let nfds = match u16::try_from(nfds) {
            Ok(0) => return Err(Cause::NoDescriptors),
            Ok(count) if nfds <= MAX_FDS => count,
            _ => return Err(Cause::TooManyDescriptors(nfds)),
        };
        let data_len = match u32::try_from(data.len()) {
            Ok(length) if data.len() <= MAX_DATA => length,
            _ => return Err(Cause::DataTooLong(data.len())),
        };
        let header = Header {
            sig,
            nfds,
            data_len,
            tag,
        };
        Ok(Outgoing {
            header,
            data,
            credentials,
        })
    }

    /// Whether it is no more than sendfd(2) can carry: one descriptor and nothing else.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.header.nfds == 1 && self.header.tag == 0 && self.data.is_empty()
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

    /// The sender as it has to be named, where that is not left to the kernel.
    #[inline]
    pub(crate) fn credentials(&self) -> Option<UCred> {
        self.credentials
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let outgoing = |nfds, data: &[u8]| Outgoing::new(40, nfds, 0, data, None).map(drop);
        assert_eq!(outgoing(0, b""), Err(Cause::NoDescriptors));
        assert_eq!(outgoing(1, b""), Ok(()));
        assert_eq!(outgoing(MAX_FDS, &[0; MAX_DATA]), Ok(()));
        assert_eq!(
            outgoing(MAX_FDS + 1, b""),
            Err(Cause::TooManyDescriptors(254))
        );
        assert_eq!(
            outgoing(70_000, b""),
            Err(Cause::TooManyDescriptors(70_000))
        );
        assert_eq!(
            outgoing(1, &[0; MAX_DATA + 1]),
            Err(Cause::DataTooLong(4097))
        );
    }
}
