//! What a port listens to: a closed set of sources, and the epoll instance that watches them all.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::io::Errno;

use crate::wait::timespec;

/// Identifies a connection for as long as the receiver lives; not used twice.
pub(crate) type Id = u64;

/// Where something to do comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The receiving end of the inbox: all senders that came by `pidfd`.
    Rx,
    /// Ready as long as it is watched, for what has left the kernel but was not given out.
    Held,
    /// Time to look again at what could not be done before.
    Clock,
    /// The listener with this place in [`Inbox`](super::inbox::Inbox).
    Listener(u32),
    /// A sender that came by `name`.
    Connection(Id),
}

impl Source {
    const LISTENERS: u64 = 1 << 32;
    const CONNECTIONS: u64 = 1 << 33;

    /// The number that epoll carries.
    fn encode(self) -> u64 {
        match self {
            Source::Rx => 0,
            Source::Held => 1,
            Source::Clock => 2,
            Source::Listener(place) => Self::LISTENERS + u64::from(place),
            Source::Connection(id) => Self::CONNECTIONS + id,
        }
    }

    fn decode(number: u64) -> Source {
        match number {
            0 => Source::Rx,
            1 => Source::Held,
            Self::CONNECTIONS.. => Source::Connection(number - Self::CONNECTIONS),
            // The low half is the place.
            Self::LISTENERS.. => Source::Listener(number as u32),
            _ => Source::Clock,
        }
    }
}

/// The epoll instance: the one descriptor that a program polls.
#[derive(Clone, Debug)]
pub(crate) struct Set(Arc<OwnedFd>);

impl Set {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Set(Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?)))
    }

    pub(crate) fn watch(&self, fd: impl AsFd, source: Source) -> Result<(), Errno> {
        self.add(fd, source, epoll::EventFlags::IN)
    }

    /// Watches for what can be written to.
    pub(crate) fn watch_writable(&self, fd: impl AsFd, source: Source) -> Result<(), Errno> {
        self.add(fd, source, epoll::EventFlags::OUT)
    }

    fn add(&self, fd: impl AsFd, source: Source, flags: epoll::EventFlags) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(source.encode());
        epoll::add(&self.0, fd, data, flags)
    }

    /// To be called before `fd` is closed: closing does not take it out of the set while a child or
    /// another table has a copy of it, and it would be reported for ever.
    pub(crate) fn unwatch(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.0, fd);
    }

    /// A source that is ready, another one each time if there are several. Does not wait.
    pub(crate) fn ready(&self) -> Result<Option<Source>, Errno> {
        let mut events = [MaybeUninit::uninit(); 1];
        let now = timespec(Duration::ZERO);
        let (ready, _) = epoll::wait(&self.0, &mut events, now.as_ref())?;
        Ok(ready.first().map(|event| Source::decode(event.data.u64())))
    }

    /// Waits until a source is ready, for `time` at most. False if none was.
    ///
    /// By poll(2), which goes on after a stop and a continue, or when a debugger comes and goes;
    /// epoll_wait(2) would end with EINTR though no handler ran.
    ///
    /// # References
    /// - [signal(7)](https://man7.org/linux/man-pages/man7/signal.7.html), "Interruption of system
    ///   calls and library functions by stop signals"
    pub(crate) fn wait(&self, time: Duration) -> Result<bool, Errno> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        Ok(poll(&mut fds, timespec(time).as_ref())? > 0)
    }

    /// The descriptor, for who keeps it registered somewhere.
    #[cfg(feature = "tokio")]
    pub(crate) fn shared(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }

    /// Whether a source is ready. Does not wait.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_ready(&self) -> bool {
        self.wait(Duration::ZERO) == Ok(true)
    }

    pub(crate) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Gives up a watched socket. Whoever is the last to have it takes it out of the set, and gets it to be
/// closed.
pub(crate) fn let_go(socket: Arc<OwnedFd>, set: &Set) -> Option<OwnedFd> {
    let socket = Arc::into_inner(socket)?;
    set.unwatch(&socket);
    Some(socket)
}

impl AsFd for Set {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_told_by_its_number() {
        for source in [
            Source::Rx,
            Source::Held,
            Source::Clock,
            Source::Listener(0),
            Source::Listener(u32::MAX),
            Source::Connection(0),
            Source::Connection(u64::MAX >> 1),
        ] {
            assert_eq!(Source::decode(source.encode()), source);
        }
    }

    #[test]
    fn what_is_not_watched_is_not_reported_though_a_copy_is_open() {
        let set = Set::new().expect("an epoll instance");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let _copy = reader.try_clone().expect("a copy");
        set.watch(&reader, Source::Clock).expect("watched");
        drop(writer);
        assert_eq!(set.ready(), Ok(Some(Source::Clock)));
        set.unwatch(&reader);
        drop(reader);
        assert_eq!(set.ready(), Ok(None));
    }
}
