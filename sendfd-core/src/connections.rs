//! The connections of senders that came by `name`: each costs one descriptor, and they are let go
//! without loss when the table gets tight.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};

use crate::sys;

/// How many idle connections are let go at once, so that looking for them is rare.
const SHED: usize = 16;

/// Identifies a connection for as long as the receiver lives; not used twice.
pub(crate) type Id = u64;

/// Connections get higher numbers than the fixed sources of a receiver.
pub(crate) const FIRST_ID: Id = 1 << 16;

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// The sending process, as far as the order of messages goes.
    pid: u32,
    /// Whether it was never read from, see [`Connections::older`].
    fresh: bool,
    /// When it was last read from, on this receiver's own clock.
    used: u64,
    /// Shut down for reading: it lives until it is drained.
    leaving: bool,
}

/// What came of accepting a connection.
pub(crate) enum Accepted {
    /// There was one; there may be more.
    One,
    /// There was one, and others should be drained before the next takes up room.
    Last,
    None,
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    by_id: BTreeMap<Id, Connection>,
    next: Id,
    clock: u64,
}

impl Connections {
    pub(crate) fn get(&mut self, id: Id) -> Option<BorrowedFd<'_>> {
        self.clock += 1;
        let connection = self.by_id.get_mut(&id)?;
        connection.used = self.clock;
        Some(connection.socket.as_fd())
    }

    pub(crate) fn remove(&mut self, id: Id) {
        // Closing takes it out of the epoll set too.
        self.by_id.remove(&id);
    }

    /// Accepts one connection from `listener`, if `admits` its user.
    pub(crate) fn accept(
        &mut self,
        listener: BorrowedFd<'_>,
        epoll: BorrowedFd<'_>,
        admits: impl FnOnce(u32) -> bool,
    ) -> Result<Accepted, Errno> {
        let socket = match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN) => return Ok(Accepted::None),
            Err(Errno::INTR | Errno::CONNABORTED) => return Ok(Accepted::One),
            // The connection stays in the queue of the listener.
            Err(Errno::MFILE) if self.shed() => return Ok(Accepted::One),
            Err(errno) => return Err(errno),
        };
        let peer = sys::peer_credentials(socket.as_fd())?;
        if !admits(peer.uid) {
            // Dropped unread, with all that it sent.
            return Ok(Accepted::One);
        }
        let full = is_tight(&socket) && !self.shed();
        let id = FIRST_ID + self.next;
        let data = epoll::EventData::new_u64(id);
        epoll::add(epoll, &socket, data, epoll::EventFlags::IN)?;
        self.next += 1;
        self.clock += 1;
        let connection = Connection {
            socket,
            pid: peer.pid,
            fresh: true,
            used: self.clock,
            leaving: false,
        };
        self.by_id.insert(id, connection);
        Ok(if full { Accepted::Last } else { Accepted::One })
    }

    /// A connection that was told to leave and only has to be drained.
    pub(crate) fn leaving(&self) -> Option<Id> {
        let mut all = self.by_id.iter();
        all.find(|(_, connection)| connection.leaving)
            .map(|(id, _)| *id)
    }

    /// Whether `id` has not been read from yet.
    pub(crate) fn is_fresh(&self, id: Id) -> bool {
        self.by_id
            .get(&id)
            .is_some_and(|connection| connection.fresh)
    }

    /// The next connection after `last` that has to be found empty before `id` is read for the
    /// first time: an older one of the same process. A thread that sends over one connection and
    /// then, having closed it or been cut off, over the next must see its messages arrive in that
    /// order.
    pub(crate) fn older(&self, id: Id, last: Id) -> Option<Id> {
        let pid = self.by_id.get(&id)?.pid;
        let mut older = self.by_id.range(last + 1..id);
        older.find(|(_, other)| other.pid == pid).map(|(id, _)| *id)
    }

    /// All older ones were found empty.
    pub(crate) fn ripen(&mut self, id: Id) {
        if let Some(connection) = self.by_id.get_mut(&id) {
            connection.fresh = false;
        }
    }

    /// Lets the connections go that were idle longest. Their senders find out at their next send
    /// and connect again. True if that made room.
    ///
    /// A connection is shut down before it is looked at: what was sent before is then in its queue
    /// and will be read, what is sent after fails at the sender. One that has something queued
    /// lives on until that is read.
    fn shed(&mut self) -> bool {
        let mut idle: Vec<(u64, Id)> = self
            .by_id
            .iter()
            .filter(|(_, connection)| !connection.leaving)
            .map(|(id, connection)| (connection.used, *id))
            .collect();
        idle.sort_unstable();
        let before = self.by_id.len();
        for (_, id) in idle.into_iter().take(SHED) {
            let Some(connection) = self.by_id.get_mut(&id) else {
                continue;
            };
            connection.leaving = true;
            let _ = shutdown(&connection.socket, Shutdown::Read);
            if is_drained(connection.socket.as_fd()) {
                self.by_id.remove(&id);
            }
        }
        self.by_id.len() < before
    }
}

/// Whether nothing is queued at a connection that was shut down for reading.
fn is_drained(socket: BorrowedFd<'_>) -> bool {
    // A record of ours is never empty, and a foreign one that is empty is no loss.
    rustix::net::recv(
        socket,
        &mut [0_u8; 1][..],
        rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT,
    )
    .is_ok_and(|(_, len)| len == 0)
}

/// Whether a descriptor just given out, always the lowest free number, is so high that connections
/// should make room for what they carry.
fn is_tight(fd: &OwnedFd) -> bool {
    let Some(limit) = sys::descriptor_limit(0) else {
        return false;
    };
    let reserve = (limit / 8).min(64);
    fd.as_raw_fd() >= limit - reserve
}
