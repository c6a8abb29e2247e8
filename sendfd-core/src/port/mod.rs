//! Everything that is open at one signal, and what one thread at a time does with it.
//!
//! One lock is enough: the kernel, too, lets only one thread at a time receive from a socket.

mod closer;
mod connections;
mod data;
mod gate;
mod inbox;
mod pace;
mod source;
mod table;
mod taken;
mod work;

use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::agent::Agent;
use crate::error::Cause;
use crate::message::Room;
use crate::path::Path;
use crate::sys::{self, Event};
use closer::Unread;
use connections::{Accepted, Connections, has_record};
use gate::{Gate, Verdict};
use inbox::Inbox;
use pace::Pace;
use source::Source;
use table::Table;
use taken::Taken;

pub(crate) use closer::{
    close as close_elsewhere, hold_for_fork as hold_closer_for_fork,
    release_in_child as release_closer_in_child, release_in_parent as release_closer_in_parent,
    wait_for,
};
#[cfg(test)]
pub(crate) use pace::DENSE;
pub(crate) use source::Set;
pub(crate) use work::Work;

/// How many messages are taken from one source before the others are looked at.
const TURN: usize = 128;

/// How many messages are taken at once where they queue up, see [`OpenPort::may_take_ahead`].
pub(crate) const AHEAD: usize = 8;

/// How much of what yields no message (records that are none, connections that come and go) one
/// portion of work deals with, before others have the lock and deadlines are looked at.
const PORTION: usize = 64;

/// How many descriptors a receiver has at least.
const OWN: usize = 5;

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// There is nothing.
    Empty,
    /// There may be something, but this was enough for once.
    Again,
    Failed(Cause),
}

impl<E: Into<Cause>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(error.into())
    }
}

type Answer<T> = Result<T, Stop>;

/// Where to look for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// At the source of the last one.
    There,
    /// There, then wherever epoll points.
    Around,
    /// Where epoll points.
    Elsewhere,
}

/// A message that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Into the room lent: it was set aside.
    Aside(u64),
    /// Into this process's table: it is the next one of this source.
    Stuck(Source),
}

/// A source that is left alone for a while.
#[derive(Debug)]
struct Resting {
    source: Source,
    /// Until its first record is gone. Otherwise until the clock strikes: what has to be closed came from
    /// there, more than is closed in time.
    until: Option<Arc<Event>>,
}

/// A message that was given up.
pub(crate) enum Discarded {
    /// To be closed once the port is let go of.
    Record(Box<sys::Record>),
    /// Another thread is at it, and says when it is done.
    Elsewhere(Arc<Event>),
}

#[derive(Debug)]
pub(crate) struct OpenPort {
    id: u64,
    sig: i32,
    set: Set,
    inbox: Inbox,
    connections: Connections,
    /// The source of the last message, and how many more it may give before others have a turn.
    current: Source,
    turn: usize,
    /// How much of [`PORTION`] is left.
    portion: usize,
    /// Whether the source had all records that were asked for last, and fewer were asked for than wanted.
    may_have_more: bool,
    taken: Taken,
    gate: Gate,
    pace: Pace,
    /// How many threads wait, or are about to.
    sleepers: u32,
    /// Whether the program ever asked for the descriptor to poll.
    polled: bool,
    /// Whether what was taken is announced as [`Source::Held`].
    watched: bool,
    /// Of which message the program was told last that it does not fit.
    told: Option<Told>,
    /// What is to be reported by the next call, since the last one gave out messages.
    owed: Option<Cause>,
    resting: Vec<Resting>,
    /// Whether the receiving end was read to its end, after retiring.
    ended: bool,
    agent: Option<Agent>,
    work: &'static Work,
}

impl OpenPort {
    pub(crate) fn open(
        sig: i32,
        uids: &[u32],
        queue_bytes: u32,
        work: &'static Work,
    ) -> Result<Self, Cause> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);

        let set = Set::new()?;
        let inbox = Inbox::open(sig, uids, queue_bytes, &set)?;
        Ok(OpenPort {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            sig,
            set,
            inbox,
            connections: Connections::default(),
            current: Source::Rx,
            turn: TURN,
            portion: 0,
            may_have_more: false,
            taken: Taken::default(),
            gate: Gate::new(sig, uids),
            pace: Pace::default(),
            sleepers: 0,
            polled: false,
            watched: false,
            told: None,
            owed: None,
            resting: Vec::new(),
            ended: false,
            agent: None,
            work,
        })
    }

    /// Tells this port from a later one of this process on the same signal.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn sig(&self) -> i32 {
        self.sig
    }

    pub(crate) fn set(&self) -> &Set {
        &self.set
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.gate.dropped()
    }

    /// Whether senders are still let in.
    pub(crate) fn is_open(&self) -> bool {
        !self.inbox.has_retired()
    }

    /// For tests that send what the library never would.
    #[cfg(test)]
    pub(crate) fn sending_end(&self) -> &OwnedFd {
        self.inbox.tx()
    }

    pub(crate) fn employ(&mut self, agent: Agent) {
        self.agent = Some(agent);
    }

    /// Tells the agent to end, and wakes it if it waits: a port that has retired is always ready.
    pub(crate) fn dismiss_agent(&mut self) -> Option<Agent> {
        let agent = self.agent.take()?;
        agent.dismiss();
        self.retire();
        Some(agent)
    }

    // ------------------------------------------------------------ receiving

    /// Fills as many of `rooms` as there are messages at hand, at least one. A caller that is going to
    /// wait if there is none may be told so without looking.
    #[inline]
    pub(crate) fn try_now<R: Room>(&mut self, rooms: &mut [R], waits: bool) -> Answer<usize> {
        if !waits || self.has_aside_or_owes() {
            return self.take(rooms, Look::Around);
        }
        if self.pace.is_slow() && self.taken.is_empty() {
            return self.before_sleep(Err(Stop::Empty));
        }
        let result = self.take(rooms, Look::There);
        self.pace.tried(result != Err(Stop::Empty));
        self.before_sleep(result)
    }

    /// The same after a portion of work that yielded nothing.
    pub(crate) fn try_again<R: Room>(&mut self, rooms: &mut [R]) -> Answer<usize> {
        let result = self.take(rooms, Look::Around);
        self.before_sleep(result)
    }

    /// The same for a thread that was told that there is nothing, and has waited.
    #[inline]
    pub(crate) fn woken<R: Room>(&mut self, rooms: &mut [R]) -> Answer<usize> {
        self.sleepers -= 1;
        let before = self.current;
        let look = if self.pace.is_steady() {
            Look::Around
        } else {
            Look::Elsewhere
        };
        let result = self.take(rooms, look);
        self.pace.woke(self.current == before);
        self.before_sleep(result)
    }

    /// A thread that was told that there is nothing does not wait any more.
    pub(crate) fn gave_up(&mut self) {
        self.sleepers -= 1;
    }

    /// From now on the program may wait for the descriptor at any time.
    pub(crate) fn polled_from_now_on(&mut self) {
        self.polled = true;
        self.settle();
    }

    #[inline]
    fn take<R: Room>(&mut self, rooms: &mut [R], look: Look) -> Answer<usize> {
        let result = if self.has_aside_or_owes() {
            self.take_despite(rooms, look)
        } else {
            self.look(rooms, look)
        };
        self.work.end();
        self.settle();
        result
    }

    #[inline]
    fn has_aside_or_owes(&self) -> bool {
        self.taken.has_aside() || self.owed.is_some()
    }

    /// Where the caller is to be told something if there is no message that it has room for.
    #[cold]
    fn take_despite<R: Room>(&mut self, rooms: &mut [R], look: Look) -> Answer<usize> {
        if let Some(cause) = self.owed.take() {
            return Err(cause.into());
        }
        // So that epoll names what is new.
        self.unwatch_held();
        match self.look(rooms, look) {
            Err(Stop::Empty | Stop::Failed(Cause::Retired)) => Err(self.tell_of_aside(rooms)),
            result => result,
        }
    }

    #[inline]
    fn look<R: Room>(&mut self, rooms: &mut [R], mut look: Look) -> Answer<usize> {
        self.portion = PORTION;
        loop {
            match self.give(rooms, true) {
                Ok(0) => {}
                Ok(given) => return Ok(self.go_on(rooms, given)),
                Err(stop) => return Err(stop),
            }
            if look != Look::Elsewhere {
                let ahead = if self.may_take_ahead() { AHEAD } else { 1 };
                match self.fill(ahead.max(rooms.len())) {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(stop) => return Err(stop),
                }
            }
            self.turn_to_next(look)?;
            look = Look::Around;
        }
    }

    /// Fills more of `rooms` where the source may have more: only so many were asked for as could be taken
    /// at once. Answers how many are filled then.
    #[inline]
    fn go_on<R: Room>(&mut self, rooms: &mut [R], mut given: usize) -> usize {
        while given < rooms.len() && self.may_have_more && self.taken.is_empty() {
            match self.fill(rooms.len() - given) {
                Ok(true) => {}
                Ok(false) => break,
                Err(Stop::Failed(cause @ Cause::NeverFits { .. })) => {
                    self.owed = Some(cause);
                    break;
                }
                // It is still so when the next call looks, or is over.
                Err(_) => break,
            }
            match self.give(&mut rooms[given..], false) {
                Ok(more) => given += more,
                Err(stop) => {
                    self.owe(stop);
                    break;
                }
            }
        }
        given
    }

    /// Where messages queue up, taking several at once is much cheaper. Nobody must be waiting for
    /// those that are not given out at once, for they leave the socket, which no longer wakes.
    #[inline]
    fn may_take_ahead(&self) -> bool {
        self.pace.is_dense() && self.sleepers == 0 && !self.polled
    }

    /// Gives out what was taken, in order, up to the first message that does not fit its room: an
    /// error if that is the very first of a call, for which `anew` says whether this is the beginning.
    #[inline]
    fn give<R: Room>(&mut self, rooms: &mut [R], anew: bool) -> Answer<usize> {
        if self.taken.has_aside() && self.give_aside(rooms)? {
            return Ok(1);
        }
        for (given, room) in rooms.iter_mut().enumerate() {
            match self.give_one(room, anew && given == 0) {
                Ok(true) => {}
                Ok(false) => return Ok(given),
                Err(stop) if given == 0 => return Err(stop),
                Err(stop) => {
                    self.owe(stop);
                    return Ok(given);
                }
            }
        }
        Ok(rooms.len())
    }

    /// Keeps for the next call what this one cannot report, having given out messages.
    #[cold]
    fn owe(&mut self, stop: Stop) {
        match stop {
            Stop::Empty | Stop::Again => {}
            Stop::Failed(cause) => self.owed = Some(cause),
        }
    }

    #[inline]
    fn give_one(&mut self, room: &mut impl Room, is_first: bool) -> Answer<bool> {
        let path = path_of(self.taken.source);
        while let Some(record) = self.taken.first() {
            match self.gate.judge(record, path) {
                Verdict::Good(accepted) => {
                    match accepted.give(record, room) {
                        Ok(()) => self.taken.advance(),
                        Err(Cause::RoomTooSmall { .. }) if is_first => {
                            return Err(self.set_aside(room));
                        }
                        Err(cause) if is_first => return Err(cause.into()),
                        // It is still there, and the next call finds out by itself.
                        Err(_) => return Ok(false),
                    }
                    return Ok(true);
                }
                Verdict::Dropped => {
                    let cut_short = record.lacks_descriptors();
                    dispose(record);
                    self.taken.advance();
                    if !closer::has_room() {
                        self.rest(self.taken.source)?;
                    }
                    if cut_short {
                        return Err(Cause::CutShort.into());
                    }
                    self.spend(1)?;
                }
                Verdict::End => {
                    self.taken.end();
                    self.end(self.taken.source)?;
                    self.spend(1)?;
                }
            }
        }
        Ok(false)
    }

    /// The program is told of a message with too little room, and until it lends more or discards, those
    /// behind it are given out.
    #[cold]
    fn set_aside(&mut self, room: &mut impl Room) -> Stop {
        let Some(aside) = self.taken.set_aside() else {
            // Too many are. First of all something has to become of those.
            return self.tell_of_aside(std::slice::from_mut(room));
        };
        self.told = Some(Told::Aside(aside.nth));
        Stop::Failed(gate::needs_of(&aside.record))
    }

    /// Tells again of the first message that was set aside: there is none that fits.
    #[cold]
    fn tell_of_aside<R: Room>(&mut self, rooms: &mut [R]) -> Stop {
        let Some(aside) = self.taken.aside().next() else {
            return Stop::Empty;
        };
        self.told = Some(Told::Aside(aside.nth));
        let cause = gate::needs_of(&aside.record);
        if let (Cause::RoomTooSmall { fds, data }, Some(room)) = (cause, rooms.first_mut()) {
            room.needs(fds, data);
        }
        Stop::Failed(cause)
    }

    /// Whether one of the messages that were set aside fits into the first of `rooms` now.
    #[cold]
    fn give_aside<R: Room>(&mut self, rooms: &mut [R]) -> Answer<bool> {
        let Some(room) = rooms.first_mut() else {
            return Ok(false);
        };
        let (max_fds, max_data) = room.room();
        let fits = |aside: &&taken::Aside| match gate::needs_of(&aside.record) {
            Cause::RoomTooSmall { fds, data } => fds <= max_fds && data <= max_data,
            _ => true,
        };
        let Some(nth) = self.taken.aside().find(fits).map(|aside| aside.nth) else {
            return Ok(false);
        };
        let Some(mut aside) = self.taken.take_aside(nth) else {
            return Ok(false);
        };
        // Its sender was accepted when it came, and may not be any more.
        match self.gate.judge(&aside.record, path_of(aside.source)) {
            Verdict::Good(accepted) => {
                if let Err(cause) = accepted.give(&mut aside.record, room) {
                    self.taken.put_back(aside);
                    return Err(cause.into());
                }
                Ok(true)
            }
            _ => {
                dispose(&mut aside.record);
                Ok(false)
            }
        }
    }

    /// Leaves a source alone for a while.
    #[cold]
    fn rest(&mut self, source: Source) -> Answer<()> {
        if self.is_resting(source) {
            return Ok(());
        }
        self.inbox.try_again_later(&self.set)?;
        if let Some(fd) = fd_of(&self.inbox, &mut self.connections, source) {
            self.set.unwatch(fd);
            self.resting.push(Resting {
                source,
                until: None,
            });
        }
        Ok(())
    }

    /// Whether a source is to be left alone now.
    #[inline]
    fn is_resting(&mut self, source: Source) -> bool {
        !self.resting.is_empty() && self.still_rests(source)
    }

    #[cold]
    fn still_rests(&mut self, source: Source) -> bool {
        let Some(at) = self.resting.iter().position(|of| of.source == source) else {
            return false;
        };
        let until = &self.resting[at].until;
        let is_over = until.as_ref().is_some_and(|done| done.has_happened());
        if is_over {
            self.resting.swap_remove(at);
        }
        !is_over
    }

    /// Has the first record of a source dropped by another thread: what it carries may take long to close.
    #[cold]
    fn drop_unread(&mut self, source: Source) -> Result<Arc<Event>, Cause> {
        let socket = match source {
            Source::Connection(id) => self.connections.share(id),
            _ => Some(self.inbox.share_rx()),
        };
        let socket = socket.ok_or(Cause::Empty)?;
        self.work.begin(socket.as_fd())?;
        self.set.unwatch(&socket);
        let unread = Unread {
            socket: Arc::clone(&socket),
            set: self.set.clone(),
            source,
        };
        let Some(done) = closer::drop_unread(unread) else {
            self.set.watch(&socket, source)?;
            return Err(Cause::Kernel(libc::ENOMEM));
        };
        self.gate.refuse();
        self.resting.push(Resting {
            source,
            until: Some(Arc::clone(&done)),
        });
        Ok(done)
    }

    /// The clock has struck.
    #[cold]
    fn try_later_things(&mut self) {
        if closer::has_room() {
            for rests in mem::take(&mut self.resting) {
                let source = rests.source;
                if rests.until.is_some()
                    || fd_of(&self.inbox, &mut self.connections, source)
                        .is_some_and(|fd| self.set.watch(fd, source).is_err())
                {
                    self.resting.push(rests);
                }
            }
        }
        let more = self.resting.iter().any(|rests| rests.until.is_none());
        self.inbox.try_again(&self.set, more);
    }

    /// Takes records from the current source, so many at most. False when that is empty or had its
    /// turn.
    #[inline]
    fn fill(&mut self, most: usize) -> Answer<bool> {
        let source = self.current;
        match source {
            Source::Connection(id) if self.connections.is_fresh(id) => {
                let mut first = 0;
                while let Some(older) = self.connections.older(id, first) {
                    if self.is_resting(Source::Connection(older)) {
                        // It is not empty yet.
                        self.rest(source)?;
                        return Ok(false);
                    }
                    if self.fill_from(Source::Connection(older), 1)? {
                        return Ok(true);
                    }
                    if self.turn == 0 {
                        // It may not be empty yet.
                        return Ok(false);
                    }
                    first = older + 1;
                }
                self.connections.ripen(id);
            }
            _ => {}
        }
        self.fill_from(source, most)
    }

    fn fill_from(&mut self, source: Source, most: usize) -> Answer<bool> {
        if self.turn == 0 || self.is_resting(source) {
            return Ok(false);
        }
        let now = sys::nanoseconds();
        self.gate.refresh(now);
        let Some(socket) = socket_of(&self.inbox, &mut self.connections, source) else {
            return Ok(false);
        };
        self.work.begin(socket)?;
        // A full table makes the kernel throw descriptors away. When it could be full, a copy is
        // taken first, and only what arrived whole is removed from the queue.
        let safe = table::records_at(now);
        let wanted = most.min(safe).min(self.turn).clamp(1, sys::BATCH);
        let records = self.taken.room_for(wanted);
        let taken = loop {
            let taken = match wanted {
                1 => sys::receive(socket, &mut records[0], safe == 0).map(|()| 1),
                _ => sys::receive_many(socket, records),
            };
            match taken {
                Ok(taken) => break taken,
                Err(Errno::AGAIN) => break 0,
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        self.pace.took(taken, wanted);
        self.may_have_more = taken == wanted && wanted < most;
        if taken == 0 {
            return Ok(false);
        }
        if safe == 0 {
            if records[0].lacks_descriptors() {
                return self.did_not_fit_table(source);
            }
            if records[0].credentials().is_some() {
                sys::discard(socket)?;
            }
        } else {
            Table::received(records.iter().take(taken).map(sys::Record::fd_count).sum());
        }
        if self.told == Some(Told::Stuck(source)) {
            self.told = None;
        }
        self.taken.filled(taken, source);
        self.turn -= taken;
        Ok(true)
    }

    /// The next message of `source` was looked at, and its descriptors found no free numbers.
    #[cold]
    fn did_not_fit_table(&mut self, source: Source) -> Answer<bool> {
        let record = &mut self.taken.room_for(1)[0];
        let wanted = gate::descriptors_of(record);
        record.close_fds();
        if let Some(fds) = wanted.filter(|fds| !Table::counted_now().can_ever_hold(*fds, OWN)) {
            self.drop_unread(source)?;
            return Err(Cause::NeverFits { fds }.into());
        }
        self.told = Some(Told::Stuck(source));
        // Others may have messages that fit.
        self.turn = 0;
        Err(Cause::TableFull.into())
    }

    /// A source was read to its end.
    #[cold]
    fn end(&mut self, source: Source) -> Answer<()> {
        match source {
            Source::Connection(id) => self.connections.remove(id, &self.set, self.work),
            _ if self.inbox.has_retired() => {
                self.ended = true;
                // Each time it is read it gives the end again: the others have their turn.
                self.turn = 0;
            }
            // The other end is this process's own: somebody who fetched it has shut it down.
            _ => {
                self.unwatch_held();
                self.work.end();
                self.inbox.renew(&self.set)?;
            }
        }
        Ok(())
    }

    /// Work that yielded no message, of which one call does not do more than a portion.
    #[inline]
    fn spend(&mut self, cost: usize) -> Answer<()> {
        self.portion = self.portion.saturating_sub(cost);
        if self.portion == 0 {
            return Err(Stop::Again);
        }
        Ok(())
    }

    /// Counts a thread that found nothing among those that wait.
    #[inline]
    fn before_sleep<T>(&mut self, result: Answer<T>) -> Answer<T> {
        if matches!(result, Err(Stop::Empty)) {
            self.sleepers += 1;
            self.settle();
        }
        result
    }

    /// Keeps the pollable descriptor readable while something is left of what was taken, if anybody
    /// might wait there.
    #[inline]
    fn settle(&mut self) {
        let wanted = (!self.taken.is_empty() || self.has_aside_or_owes())
            && (self.polled || self.sleepers > 0);
        if self.watched != wanted {
            self.watch_held(wanted);
        }
    }

    /// The sending end can be written to unless the queue is full, in which case the receiving end
    /// can be read: so one of them is always ready while this is watched.
    #[cold]
    fn watch_held(&mut self, wanted: bool) {
        if wanted {
            let tx = self.inbox.tx();
            self.watched = self.set.watch_writable(tx, Source::Held).is_ok();
        } else {
            self.unwatch_held();
        }
    }

    fn unwatch_held(&mut self) {
        if self.watched {
            self.set.unwatch(self.inbox.tx());
        }
        self.watched = false;
    }

    /// The current source has nothing more, or had its turn: finds the next.
    fn turn_to_next(&mut self, look: Look) -> Answer<()> {
        if look == Look::There {
            return Err(Stop::Empty);
        }
        // Of several that are ready, epoll names another each time.
        let ready = self.set.ready()?;
        let Some(source) = ready else {
            return Err(Stop::Empty);
        };
        self.turn = TURN;
        match source {
            Source::Rx if self.ended => return self.finish(),
            Source::Connection(id) if self.connections.get(id).is_none() => self.spend(1)?,
            Source::Rx | Source::Connection(_) => self.current = source,
            // All that was left has turned out to be no messages.
            Source::Held => self.settle(),
            Source::Listener(place) => self.accept(place)?,
            Source::Clock => {
                self.try_later_things();
                self.spend(1)?;
            }
        }
        Ok(())
    }

    fn accept(&mut self, place: u32) -> Answer<()> {
        let last_words = self.inbox.has_retired();
        for _ in 0..PORTION {
            let Some(listener) = self.inbox.listener(place) else {
                return Ok(());
            };
            if !closer::has_room() {
                return self.rest(Source::Listener(place));
            }
            let gate = &mut self.gate;
            let admit = |uid| gate.admits(uid);
            let accepted = self
                .connections
                .accept(listener, &self.set, self.work, last_words, admit);
            match accepted {
                Ok(Accepted::One) => {}
                Ok(Accepted::None) => return Ok(()),
                Ok(Accepted::End) => {
                    self.inbox.close_listener(place, &self.set);
                    return Ok(());
                }
                answer => {
                    // The table is as full as it may get. What makes room is to drain those
                    // connections that were let go.
                    match (self.connections.leaving(), answer) {
                        (_, Err(cause @ Cause::Inherited)) => return Err(cause.into()),
                        (Some(id), _) => self.current = Source::Connection(id),
                        (None, Err(cause)) => return Err(cause.into()),
                        (None, Ok(_)) => {}
                    }
                    return Ok(());
                }
            }
            self.spend(1)?;
        }
        Ok(())
    }

    // ------------------------------------------------------------ ending

    /// Lets nobody in any more. What was sent is still received.
    pub(crate) fn retire(&mut self) {
        if self.inbox.has_retired() {
            return;
        }
        self.unwatch_held();
        self.inbox.retire(self.work);
        self.connections.dismiss_all(self.work);
        // Who connected before is to be heard, and then the address is free. What cannot be done now
        // is done when receiving.
        self.portion = PORTION;
        let mut place = 0;
        while self.inbox.listener(place).is_some() {
            let _ = self.accept(place);
            place += 1;
        }
        self.work.end();
        self.settle();
    }

    /// After retiring, the receiving end has nothing more: is this the end?
    #[cold]
    fn finish(&mut self) -> Answer<()> {
        if !self.connections.is_empty() || self.inbox.has_listeners() {
            // They are ready too, and epoll names them next.
            self.spend(1)?;
            return Ok(());
        }
        Err(Cause::Retired.into())
    }

    /// Gives up the message that the program was last told it cannot receive. `None` if there is no such
    /// message.
    pub(crate) fn discard(&mut self) -> Result<Option<Discarded>, Cause> {
        let source = match self.told.take() {
            Some(Told::Aside(nth)) => {
                let aside = self.taken.take_aside(nth);
                if aside.is_some() {
                    self.gate.refuse();
                }
                self.settle();
                return Ok(aside.map(|aside| Discarded::Record(aside.record)));
            }
            Some(Told::Stuck(source)) => source,
            None => return Ok(None),
        };
        let is_there = match source {
            Source::Connection(id) => {
                let socket = self.connections.share(id);
                socket.is_some_and(|socket| has_record(&socket))
            }
            _ => has_record(&self.inbox.share_rx()),
        };
        if !is_there {
            return Ok(None);
        }
        let dropped = self.drop_unread(source);
        self.work.end();
        if dropped.is_err() {
            self.told = Some(Told::Stuck(source));
        }
        dropped.map(|done| Some(Discarded::Elsewhere(done)))
    }

    /// Closes everything. Returns what has to be closed where nobody waits for it, and what keeps the
    /// set ready, so that threads which wait there find out.
    pub(crate) fn close(self) -> (Vec<OwnedFd>, OwnedFd) {
        let (mut slow, tx) = self.inbox.close(&self.set, self.work);
        slow.append(&mut self.connections.close(&self.set, self.work));
        for mut record in self.taken.into_records() {
            slow.extend(record.split().1);
        }
        // The other end is shut down: this is ready for ever.
        let _ = self.set.watch_writable(&tx, Source::Held);
        (slow, tx)
    }

    /// In a forked child: closes everything, so that nothing of the parent's lives on here. Frees no
    /// memory, and leaves the set alone, which is the parent's too.
    pub(crate) fn disown(self) {
        let inbox = self.inbox.numbers();
        let all = inbox
            .chain(self.connections.numbers())
            .chain(self.taken.numbers());
        for number in all {
            sys::close_forgotten(number);
        }
        // The child's Receiver still has the number, and the epoll instance behind it is the
        // parent's. One that is never ready takes its place; there is room for it now.
        sys::replace_with_empty_set(self.set.number());
        // The agent is no thread of this process that could be joined or detached.
        mem::forget(self);
    }
}

/// What no program received is closed where it makes nobody wait.
#[cold]
fn dispose(record: &mut sys::Record) {
    let (_, fds) = record.split();
    let fds: Vec<OwnedFd> = fds.collect();
    if !fds.is_empty() {
        closer::hand_over(fds);
    }
}

#[inline]
fn path_of(source: Source) -> Path {
    if source == Source::Rx {
        Path::Pidfd
    } else {
        Path::Name
    }
}

/// The descriptor of a source, if it is one that may rest.
fn fd_of<'a>(
    inbox: &'a Inbox,
    connections: &'a mut Connections,
    source: Source,
) -> Option<BorrowedFd<'a>> {
    match source {
        Source::Listener(place) => inbox.listener(place),
        source => socket_of(inbox, connections, source),
    }
}

#[inline]
fn socket_of<'a>(
    inbox: &'a Inbox,
    connections: &'a mut Connections,
    source: Source,
) -> Option<BorrowedFd<'a>> {
    match source {
        Source::Rx => Some(inbox.rx()),
        Source::Connection(id) => connections.get(id),
        _ => None,
    }
}
