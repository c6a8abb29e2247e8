//! The connections of senders that came by `name`: each costs one descriptor, and they are let go
//! without loss when the table gets tight.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, SocketFlags, accept_with, recvmsg};

use super::closer;
use super::source::{Id, Set, Source, let_go};
use super::table::Table;
use super::work::Work;
use crate::error::Cause;
use crate::sys;
use crate::wait::timespec;

/// How many idle connections are let go at once, so that looking for them is rare.
const SHED: usize = 16;

#[derive(Debug)]
struct Connection {
    socket: Arc<OwnedFd>,
    /// The sending process, as far as the order of messages goes; 0 if it cannot be seen from here.
    pid: u32,
    /// Whether it was never read from, see [`Connections::older`].
    fresh: bool,
    /// When it was last read from, on this receiver's own clock.
    used: u64,
    /// Shut down for reading: it lives until it is drained.
    leaving: bool,
}

/// What came of accepting a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// There was one; there may be more.
    One,
    /// There was one, and others should be drained before the next takes up room.
    Last,
    None,
    /// The listener was shut down, and nobody waits there any more.
    End,
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    by_id: BTreeMap<Id, Connection>,
    next: Id,
    clock: u64,
}

impl Connections {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    #[inline]
    pub(crate) fn get(&mut self, id: Id) -> Option<BorrowedFd<'_>> {
        self.clock += 1;
        let connection = self.by_id.get_mut(&id)?;
        connection.used = self.clock;
        Some(connection.socket.as_fd())
    }

    /// The same to be kept for a while.
    pub(crate) fn share(&self, id: Id) -> Option<Arc<OwnedFd>> {
        let connection = self.by_id.get(&id)?;
        Some(Arc::clone(&connection.socket))
    }

    /// One that was read to its end: the other end is closed, or it was drained.
    pub(crate) fn remove(&mut self, id: Id, set: &Set, work: &Work) {
        if let Some(connection) = self.by_id.remove(&id) {
            let socket = let_go(connection.socket, set);
            work.end();
            drop(socket);
        }
    }

    /// Takes the next connection from `listener`. Those of strangers are closed unread. With
    /// `last_words` only what was sent before is still read.
    pub(crate) fn accept(
        &mut self,
        listener: BorrowedFd<'_>,
        set: &Set,
        work: &Work,
        last_words: bool,
        admits: impl FnOnce(u32) -> bool,
    ) -> Result<Accepted, Cause> {
        let table = Table::counted_now();
        work.begin(listener)?;
        let accepted = if !self.is_empty() && table.has_one_left() {
            // The last number is for what comes over the connections that there are.
            Err(Errno::MFILE)
        } else {
            accept_with(listener, SocketFlags::CLOEXEC)
        };
        let socket = match accepted {
            Ok(socket) => socket,
            // Shut down and empty: nobody can join it any more.
            Err(Errno::AGAIN | Errno::INVAL) if last_words => return Ok(Accepted::End),
            Err(Errno::AGAIN) => return Ok(Accepted::None),
            Err(Errno::INTR | Errno::CONNABORTED) => return Ok(Accepted::One),
            // The connection stays in the queue of the listener.
            Err(Errno::MFILE) if self.shed(set, work) => return Ok(Accepted::One),
            Err(errno) => return Err(errno.into()),
        };
        let peer = sys::peer_credentials(socket.as_fd())?;
        if !admits(peer.uid) {
            refuse(socket, work);
            return Ok(Accepted::One);
        }
        if last_words {
            work.shut_down(&socket);
        }
        let tight = table.is_tight(socket.as_raw_fd() as u64);
        let full = tight && !self.shed(set, work);
        let id = self.next;
        set.watch(&socket, Source::Connection(id))?;
        self.next += 1;
        self.clock += 1;
        let connection = Connection {
            socket: Arc::new(socket),
            pid: peer.pid,
            fresh: true,
            used: self.clock,
            leaving: last_words,
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
    #[inline]
    pub(crate) fn is_fresh(&self, id: Id) -> bool {
        self.by_id
            .get(&id)
            .is_some_and(|connection| connection.fresh)
    }

    /// The next connection from `first` on that has to be read to its end before `id` is read for the
    /// first time: an older one of the same process, which that process has closed or was cut off
    /// from. A thread that sends over one connection and then over the next must see its messages
    /// arrive in that order. One that is still open is another thread's, and nobody can add to one
    /// that is not, so that this ends.
    pub(crate) fn older(&self, id: Id, first: Id) -> Option<Id> {
        let pid = self.by_id.get(&id)?.pid;
        let mut older = self.by_id.range(first..id);
        older
            .find(|(_, other)| other.pid == pid && other.has_ended())
            .map(|(id, _)| *id)
    }

    /// All older ones were read to their ends.
    pub(crate) fn ripen(&mut self, id: Id) {
        if let Some(connection) = self.by_id.get_mut(&id) {
            connection.fresh = false;
        }
    }

    /// Has every sender find out at its next send that this receiver takes no more. What was sent
    /// before is still there to be read.
    pub(crate) fn dismiss_all(&mut self, work: &Work) {
        for connection in self.by_id.values_mut() {
            connection.leaving = true;
            work.shut_down(&connection.socket);
        }
    }

    /// Takes all out of the set. Returns those that something is queued at, which may take long to
    /// close.
    pub(crate) fn close(self, set: &Set, work: &Work) -> Vec<OwnedFd> {
        let sockets = self.by_id.into_values().map(|connection| connection.socket);
        sockets
            .filter_map(|socket| {
                work.shut_down(&socket);
                let socket = let_go(socket, set);
                work.end();
                socket.filter(has_record)
            })
            .collect()
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let all = self.by_id.values();
        all.map(|connection| connection.socket.as_raw_fd())
    }

    /// Lets the connections go that were idle longest. Their senders find out at their next send
    /// and connect again. True if that made room.
    ///
    /// A connection is shut down before it is looked at: what was sent before is then in its queue
    /// and will be read, what is sent after fails at the sender. One that has something queued
    /// lives on until that is read.
    fn shed(&mut self, set: &Set, work: &Work) -> bool {
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
            work.shut_down(&connection.socket);
            if !has_record(&connection.socket) {
                self.remove(id, set, work);
            }
        }
        self.by_id.len() < before
    }
}

impl Connection {
    /// Whether nobody can send over it any more.
    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        self.leaving
            || poll(&mut fds, timespec(Duration::ZERO).as_ref()).is_ok_and(|ready| ready > 0)
    }
}

/// Closes the connection of a stranger unread, with all that it sent.
fn refuse(socket: OwnedFd, work: &Work) {
    work.shut_down(&socket);
    work.end();
    if has_record(&socket) {
        closer::hand_over(vec![socket]);
    }
}

/// Whether something is queued at a socket. Leaves it there, and takes no descriptors in.
pub(crate) fn has_record(socket: &OwnedFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let mut no_control = RecvAncillaryBuffer::new(&mut []);
    // Every record bears credentials, for which there is no room here. The end of a stream does not.
    recvmsg(socket, &mut [], &mut no_control, flags)
        .is_ok_and(|message| message.flags.contains(ReturnFlags::CTRUNC))
}
