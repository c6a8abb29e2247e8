//! A message as it arrives, and the room it goes into.

use std::fmt;
use std::os::fd::OwnedFd;

use crate::credentials::Credentials;
use crate::limits::{MAX_DATA, MAX_FDS};
use crate::path::Path;
use crate::sys;

/// A received message. It owns its descriptors: those that are not taken out are closed with it.
///
/// One message can be received into again and again ([`Receiver::recv_into`]), so that receiving
/// does not allocate.
///
/// [`Receiver::recv_into`]: crate::Receiver::recv_into
#[derive(Debug)]
#[non_exhaustive]
pub struct Message {
    /// The descriptors, close-on-exec, in the order sent.
    pub fds: Vec<OwnedFd>,
    /// The sender's bytes.
    pub data: Vec<u8>,
    /// The sender's number.
    pub tag: u64,
    /// Who sent it.
    pub sender: Credentials,
    /// The way it came.
    pub path: Path,
}

impl Default for Message {
    fn default() -> Self {
        Message {
            fds: Vec::new(),
            data: Vec::new(),
            tag: 0,
            sender: Credentials::default(),
            path: Path::Pidfd,
        }
    }
}

/// A message that is being given out: the receiver's view of it, before it is stored anywhere.
#[derive(Debug)]
#[non_exhaustive]
pub struct Incoming<'a> {
    /// The descriptors. Those that are not taken are closed.
    pub fds: Descriptors<'a>,
    /// The sender's bytes.
    pub data: &'a [u8],
    /// The sender's number.
    pub tag: u64,
    /// Who sent it.
    pub sender: Credentials,
    /// The way it came.
    pub path: Path,
}

/// Where received messages go. [`Message`] takes everything; a language binding that lends fixed
/// buffers implements this itself.
pub trait Room {
    /// How many descriptors and how many bytes of data there is room for.
    fn room(&self) -> (usize, usize);

    /// Takes a message that fits.
    fn put(&mut self, incoming: Incoming<'_>);

    /// Is told what the next message needs when it does not fit.
    fn needs(&mut self, fds: usize, data: usize) {
        let _ = (fds, data);
    }
}

impl Room for Message {
    fn room(&self) -> (usize, usize) {
        (MAX_FDS, MAX_DATA)
    }

    fn put(&mut self, incoming: Incoming<'_>) {
        self.fds.clear();
        self.fds.extend(incoming.fds);
        self.data.clear();
        self.data.extend_from_slice(incoming.data);
        self.tag = incoming.tag;
        self.sender = incoming.sender;
        self.path = incoming.path;
    }
}

/// The descriptors of an [`Incoming`] message. Dropping it closes what was not taken.
pub struct Descriptors<'a>(sys::ReceivedFds<'a>);

impl<'a> From<sys::ReceivedFds<'a>> for Descriptors<'a> {
    fn from(fds: sys::ReceivedFds<'a>) -> Self {
        Descriptors(fds)
    }
}

impl Iterator for Descriptors<'_> {
    type Item = OwnedFd;

    #[inline]
    fn next(&mut self) -> Option<OwnedFd> {
        self.0.next()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Descriptors<'_> {}

impl fmt::Debug for Descriptors<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptors({})", self.len())
    }
}
