//! The receiving end as a program sees it: one pollable descriptor, one `recv` for every path.

use std::mem::{self, MaybeUninit};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::connections::{self, Connections};
use crate::credentials::Credentials;
use crate::error::{Attempt, Cause, Error, Result};
use crate::fork::{self, Place};
use crate::gate::{Gate, Verdict};
use crate::inbox::Inbox;
use crate::link::syscall;
use crate::listen::Agent;
use crate::lock::lock;
use crate::message::{Descriptors, Incoming, Message, Room};
use crate::path::Path;
use crate::self_pipe::SelfPipe;
use crate::signal::Port;
use crate::sys::{self, Record};
use crate::wait::{Deadline, Wait, timespec};

/// What a receiver may be opened with.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiverOptions<'a> {
    uids: &'a [u32],
    queue_bytes: u32,
}

impl<'a> ReceiverOptions<'a> {
    /// No further users, and the kernel's default queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Users whose messages are accepted, beside this process's own user and root. Each costs a
    /// descriptor.
    #[must_use]
    pub fn uids(self, uids: &'a [u32]) -> Self {
        ReceiverOptions { uids, ..self }
    }

    /// How many bytes senders that came by `pidfd` can have queued together, by the kernel's count,
    /// in which the smallest record takes about 768. 0 is the kernel's default (212,992, some 277
    /// records). Above `net.core.wmem_max` only for root.
    #[must_use]
    pub fn queue_bytes(self, queue_bytes: u32) -> Self {
        ReceiverOptions {
            queue_bytes,
            ..self
        }
    }
}

/// Receives what other processes send to this process at one signal. No signal is raised.
///
/// Where the kernel has sendfd(2), the receiver also handles `sig`, so that one `recv` serves every
/// path; and it owns three descriptors more.
///
/// A process can have one receiver for each signal. It owns five descriptors, all close-on-exec: a
/// socket pair, a marker by which senders find it, a listening socket (one more for each further
/// user), an epoll descriptor; and one more for each sender that came by the `name` path, which it
/// lets go again, without loss, when the table gets tight.
///
/// Where messages queue up, and no thread waits here and [`AsFd`] was never used, up to eight are
/// taken from the kernel at once and given out one by one, which is much cheaper: as many as the table
/// has room for, whatever they carry; two under an RLIMIT_NOFILE of 1,024. So the descriptors of the
/// next seven may be in this process's table early. They are closed with the receiver, and in a
/// forked child.
///
/// Threads may share a receiver. A forked child's copy receives nothing (`EBADF`) and keeps nothing
/// of its parent's alive. Not for use in a signal handler.
///
/// Dropping it closes what nobody received; senders get `ECONNREFUSED` from then on.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)
/// - [epoll(7)](https://man7.org/linux/man-pages/man7/epoll.7.html)
#[derive(Debug)]
pub struct Receiver {
    port: Port,
    /// Tells this receiver from a later one of this process on the same signal.
    id: u64,
    epoll: Arc<OwnedFd>,
    /// Set by [`Receiver::close`]. It keeps `epoll` ready, so that threads which wait there find out.
    closed: OnceLock<OwnedFd>,
}

impl Receiver {
    /// Listens at `port`, with the default options.
    ///
    /// # Errors
    /// As [`Receiver::open_with`].
    pub fn open(port: Port) -> Result<Self> {
        Self::open_with(port, &ReceiverOptions::default())
    }

    /// Listens at `port`. Does not block.
    ///
    /// If another process sits on the abstract address, the receiver opens all the same and can be
    /// reached by `pidfd`; [`probe()`](crate::probe()) of this process says so.
    ///
    /// # Errors
    /// - `EADDRINUSE`: this process already listens at `port`, or (where the kernel has sendfd(2))
    ///   has a handler for it.
    /// - `EMFILE`, `ENFILE`, `ENOMEM`: as the kernel says.
    pub fn open_with(port: Port, options: &ReceiverOptions<'_>) -> Result<Self> {
        let sig = port.signal();
        let catches = syscall::number().is_some();
        Self::open_place(port, options, catches)
            .map_err(|cause| Error::new(Attempt::OpenReceiver { sig }, cause))
    }

    /// For signal mode: the process itself takes the signals that the kernel raises.
    pub(crate) fn open_for_agent(port: Port) -> Answer<Self> {
        Self::open_place(port, &ReceiverOptions::default(), false)
    }

    fn open_place(port: Port, options: &ReceiverOptions<'_>, catches: bool) -> Answer<Self> {
        let sig = port.signal();
        fork::prepare_for_it()?;
        let mut place = lock(fork::place(sig));
        if place.is_some() {
            return Err(Cause::AlreadyListening);
        }
        let state = State::open(sig, options, catches)?;
        let receiver = Receiver {
            port,
            id: state.id,
            epoll: Arc::clone(&state.epoll),
            closed: OnceLock::new(),
        };
        *place = Some(state);
        Ok(receiver)
    }

    /// The port at which it listens.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// How many records were dropped, with their descriptors closed: from users that are not
    /// accepted, or not made by this library.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.with(|state| Ok(state.gate.dropped())).unwrap_or(0)
    }

    /// Receives one message into a new [`Message`]. See [`Receiver::recv_into`].
    ///
    /// # Errors
    /// As [`Receiver::recv_into`].
    pub fn recv(&self, wait: Wait) -> Result<Message> {
        let mut message = Message::default();
        self.recv_into(&mut message, wait)?;
        Ok(message)
    }

    /// Receives one message into `room`. Blocks as long as `wait` allows while there is none.
    ///
    /// The descriptors that come out are `room`'s, close-on-exec. On an error, nothing has come
    /// out and nothing is lost.
    ///
    /// # Errors
    /// - `EAGAIN`: there is no message, and `wait` is [`Wait::Never`].
    /// - `ETIMEDOUT`: none came in time.
    /// - `EINTR`: a signal handler ran while waiting.
    /// - `EMFILE`: this process's descriptor table is full. The message stays.
    /// - `EMSGSIZE`: the message needs more room than there is. It stays. (Not with a [`Message`].)
    /// - `EBADF`: the receiver was closed, or inherited through fork.
    pub fn recv_into(&self, room: &mut impl Room, wait: Wait) -> Result<()> {
        self.recv_many(slice::from_mut(room), wait).map(drop)
    }

    /// Receives as many messages as are there, one for each of `rooms` at most. Blocks as long as
    /// `wait` allows while there is none; having one, it does not wait for more.
    ///
    /// Returns how many of `rooms` were filled, from the first on: at least one.
    ///
    /// # Errors
    /// As [`Receiver::recv_into`], when not even one was received.
    pub fn recv_many<R: Room>(&self, rooms: &mut [R], wait: Wait) -> Result<usize> {
        if rooms.is_empty() {
            return Ok(0);
        }
        self.receive(wait, |state, look| state.take(rooms, look))
    }

    /// Stops listening now, while other threads may still hold the receiver: those that wait in it
    /// fail with `EBADF`. What nobody received is closed; senders get `ECONNREFUSED`.
    ///
    /// Two descriptors stay open until the receiver is dropped. Does nothing when it is closed, or
    /// was inherited through fork.
    pub fn close(&self) {
        // Locked to the end: who finds the state gone must find out why.
        let mut place = lock(self.place());
        let Some(mut state) = place.take_if(|state| state.id == self.id) else {
            return;
        };
        // The sending end of a closed inbox can always be written to, without success.
        if !state.watched {
            state.watch_held(true);
        }
        let _ = self.closed.set(state.close());
    }

    #[inline]
    fn receive<T>(
        &self,
        wait: Wait,
        mut take: impl FnMut(&mut State, Look) -> Answer<T>,
    ) -> Result<T> {
        let result = self.with(|state| {
            if wait == Wait::Never {
                return take(state, Look::Around);
            }
            // Who waits anyway learns from the wait where to look.
            if state.taken.is_empty() && state.pace.is_slow() {
                return state.before_sleep(Err(Cause::Empty));
            }
            let result = take(state, Look::Nowhere);
            state.pace.tried(&result);
            state.before_sleep(result)
        });
        if wait == Wait::Never || !matches!(result, Err(Cause::Empty)) {
            return result.map_err(|cause| self.error(cause));
        }
        let deadline = Deadline::after(wait);
        // However short the time, it was not too short for one look.
        let mut left = deadline.left().or(Some(Duration::ZERO));
        loop {
            let look = self.sleep(left);
            let result = self.with(|state| {
                state.sleepers -= 1;
                let result = take(state, look?);
                state.before_sleep(result)
            });
            match result {
                Err(Cause::Empty) => left = deadline.left(),
                result => return result.map_err(|cause| self.error(cause)),
            }
        }
    }

    fn sleep(&self, left: Option<Duration>) -> Answer<Look> {
        let handled = sys::handled();
        let left = left.ok_or(Cause::NeverCame)?;
        match next_ready(self.epoll.as_fd(), timespec(left).as_ref()) {
            Ok(ready) => ready.map(Look::At).ok_or(Cause::NeverCame),
            // Not a signal of the program's: it has brought a message.
            Err(Errno::INTR) if sys::handled() != handled => Ok(Look::Around),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Runs `f` on this receiver's state, unless a fork left that to the parent.
    #[inline]
    fn with<T>(&self, f: impl FnOnce(&mut State) -> Answer<T>) -> Answer<T> {
        let mut place = lock(self.place());
        match place.as_mut().filter(|state| state.id == self.id) {
            Some(state) => f(state),
            None if self.closed.get().is_some() => Err(Cause::Closed),
            None => Err(Cause::Inherited),
        }
    }

    fn error(&self, cause: Cause) -> Error {
        Error::new(
            Attempt::Receive {
                sig: self.port.signal(),
            },
            cause,
        )
    }

    fn place(&self) -> &'static Place {
        fork::place(self.port.signal())
    }

    pub(crate) fn employ(&self, agent: Agent) {
        let employed = self.with(|state| {
            state.agent = Some(agent);
            Ok(())
        });
        debug_assert_eq!(employed, Ok(()), "only its agent closes the receiver");
    }
}

impl AsFd for Receiver {
    /// To be polled for reading; it is readable whenever there is something to receive. From its
    /// first use on, no message is taken from the kernel before it is asked for.
    fn as_fd(&self) -> BorrowedFd<'_> {
        let _ = self.with(|state| {
            state.polled = true;
            state.settle();
            Ok(())
        });
        self.epoll.as_fd()
    }
}

impl AsRawFd for Receiver {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut place = lock(self.place());
        let own = place.take_if(|state| state.id == self.id);
        // Closing many descriptors takes a while; nobody need wait for it.
        drop(place);
        drop(own);
    }
}

/// How densely messages come. Where each is waited for, trying the socket before every wait is a
/// system call for nothing; where they queue up, waiting before every try is, and so is taking them
/// one by one.
#[derive(Debug, Default)]
struct Pace {
    /// How many tries in a row found nothing, and how many calls since did not try.
    misses: u32,
    /// How many records in a row were there without waiting.
    hits: u32,
}

impl Pace {
    const SLOW: u32 = 4;
    const TRY_AGAIN: u32 = Self::SLOW + 16;
    const DENSE: u32 = 8;

    /// Whether to wait before trying, which has to be reconsidered now and then.
    fn is_slow(&mut self) -> bool {
        if self.misses < Self::SLOW {
            return false;
        }
        let slow = self.misses < Self::TRY_AGAIN;
        self.misses = if slow {
            self.misses + 1
        } else {
            Self::SLOW - 1
        };
        slow
    }

    /// Notes what came of trying without having waited.
    fn tried<T>(&mut self, result: &Answer<T>) {
        match result {
            Err(Cause::Empty) => self.misses = (self.misses + 1).min(Self::SLOW),
            _ => self.misses = 0,
        }
    }

    fn is_dense(&self) -> bool {
        self.hits >= Self::DENSE
    }

    /// Notes how many records a source had, of so many `wanted`.
    fn took(&mut self, count: usize, wanted: usize) {
        self.hits = if count < wanted {
            0
        } else {
            self.hits.saturating_add(count as u32)
        };
    }
}

/// Where to look for a message when the source of the last one has none.
#[derive(Clone, Copy, Debug)]
enum Look {
    Nowhere,
    Around,
    At(u64),
}

/// The sources that are not connections, by the numbers that epoll reports.
const RX: u64 = 0;
/// Ready as long as it is watched, for what has left the kernel but was not given out.
const HELD: u64 = 1;
/// The two of [`SelfPipe`].
const CAUGHT: u64 = 2;
const PENDING: u64 = 3;
const LISTENERS: u64 = 4;

/// How many messages are taken from one source before the others are looked at.
const TURN: usize = 128;

/// How many messages are taken at once where they queue up, see [`State::may_take_ahead`].
const AHEAD: usize = 8;

/// Everything of a receiver that one thread at a time works on.
///
/// One lock is enough: the kernel, too, lets only one thread at a time receive from a socket.
#[derive(Debug)]
pub(crate) struct State {
    id: u64,
    epoll: Arc<OwnedFd>,
    inbox: Inbox,
    /// Where the kernel has sendfd(2), which raises a signal.
    self_pipe: Option<SelfPipe>,
    connections: Connections,
    /// The source of the last message, and how many more it may give before others have a turn.
    current: u64,
    turn: usize,
    taken: Taken,
    gate: Gate,
    pace: Pace,
    /// How many threads wait, or are about to.
    sleepers: u32,
    /// Whether the program ever asked for the descriptor to poll.
    polled: bool,
    /// Whether what was taken is announced as [`HELD`].
    watched: bool,
    pub(crate) agent: Option<Agent>,
}

impl State {
    fn open(sig: i32, options: &ReceiverOptions<'_>, catches: bool) -> Answer<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);

        let inbox = Inbox::open(sig, options.uids, options.queue_bytes)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        watch(&epoll, &inbox.rx, RX)?;
        for (listener, source) in inbox.listeners.iter().zip(LISTENERS..) {
            watch(&epoll, listener, source)?;
        }
        let gate = Gate::new(sig, options.uids);
        let mut self_pipe = None;
        if catches {
            let pipe = SelfPipe::open(sig, gate.limit())?;
            watch(&epoll, &pipe.caught, CAUGHT)?;
            watch(&epoll, &pipe.pending, PENDING)?;
            self_pipe = Some(pipe);
        }
        Ok(State {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            epoll: Arc::new(epoll),
            inbox,
            self_pipe,
            connections: Connections::default(),
            current: RX,
            turn: TURN,
            taken: Taken::default(),
            gate,
            pace: Pace::default(),
            sleepers: 0,
            polled: false,
            watched: false,
            agent: None,
        })
    }

    /// In a forked child: lets go of everything, so that nothing of the parent's lives on here.
    pub(crate) fn disown(mut self) {
        // The child's Receiver still has the number, and the epoll instance behind it is the
        // parent's. One that is never ready takes its place.
        if let Ok(empty) = epoll::create(epoll::CreateFlags::CLOEXEC) {
            let _ = sys::replace(self.epoll.as_fd(), &empty);
        }
        // Other threads do not exist in the child: no handler runs there, and there is no agent to
        // join or detach.
        sys::forget_handlers();
        if let Some(self_pipe) = self.self_pipe.take() {
            self_pipe.disown();
        }
        mem::forget(self.agent.take());
    }

    /// Closes all but the sending end.
    fn close(self) -> OwnedFd {
        self.inbox.tx
    }

    /// Makes the agent of signal mode find the end of its inbox.
    pub(crate) fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.inbox.rx, rustix::net::Shutdown::Read);
    }

    /// Fills as many of `rooms` as there are messages at hand, at least one.
    #[inline]
    fn take<R: Room>(&mut self, rooms: &mut [R], mut look: Look) -> Answer<usize> {
        let result = loop {
            match self.give(rooms) {
                Ok(0) => {}
                result => break result,
            }
            let ahead = if self.may_take_ahead() { AHEAD } else { 1 };
            match self.fill(ahead.max(rooms.len())) {
                Ok(true) => {}
                Ok(false) => match self.turn_to(look) {
                    Ok(next) => look = next,
                    Err(cause) => break Err(cause),
                },
                Err(cause) => break Err(cause),
            }
        };
        self.settle();
        result
    }

    /// Where messages queue up, taking several at once is much cheaper. Nobody must be waiting for
    /// those that are not given out at once, for they leave the socket, which no longer wakes.
    #[inline]
    fn may_take_ahead(&self) -> bool {
        self.pace.is_dense() && self.sleepers == 0 && !self.polled
    }

    /// Gives out what was taken, in order, up to the first message that does not fit its room: an
    /// error if that is the very first.
    #[inline]
    fn give<R: Room>(&mut self, rooms: &mut [R]) -> Answer<usize> {
        for (given, room) in rooms.iter_mut().enumerate() {
            match self.give_one(room) {
                Ok(true) => {}
                Err(cause) if given == 0 => return Err(cause),
                _ => return Ok(given),
            }
        }
        Ok(rooms.len())
    }

    #[inline]
    fn give_one(&mut self, room: &mut impl Room) -> Answer<bool> {
        if self.taken.caught.is_some() {
            return self.give_caught(room).map(|()| true);
        }
        while !self.taken.left.is_empty() {
            let record = &mut self.taken.records[self.taken.left.start];
            match self.gate.judge(record, path_of(self.taken.source)) {
                Verdict::Good(accepted) => {
                    // One that does not fit stays.
                    accepted.give(record, room)?;
                    self.taken.left.start += 1;
                    return Ok(true);
                }
                Verdict::Dropped => self.taken.left.start += 1,
                Verdict::End => {
                    self.taken.left = 0..0;
                    self.end(self.taken.source)?;
                }
            }
        }
        Ok(false)
    }

    fn give_caught(&mut self, room: &mut impl Room) -> Answer<()> {
        if room.room().0 == 0 {
            room.needs(1, 0);
            return Err(Cause::RoomTooSmall { fds: 1, data: 0 });
        }
        if let Some((fd, sender)) = self.taken.caught.take() {
            room.put(Incoming {
                fds: Descriptors::from(fd),
                data: &[],
                tag: 0,
                sender,
                path: Path::Syscall,
            });
        }
        Ok(())
    }

    /// Takes records from the current source, so many at most. False when that is empty or had its
    /// turn.
    #[inline]
    fn fill(&mut self, most: usize) -> Answer<bool> {
        let source = self.current;
        if source == CAUGHT || source == PENDING {
            self.taken.caught = self.next_caught();
            return Ok(self.taken.caught.is_some());
        }
        if source != RX && self.connections.is_fresh(source) {
            let mut last = 0;
            while let Some(older) = self.connections.older(source, last) {
                if self.fill_from(older, 1)? {
                    return Ok(true);
                }
                if self.turn == 0 {
                    // It may not be empty yet.
                    return Ok(false);
                }
                last = older;
            }
            self.connections.ripen(source);
        }
        self.fill_from(source, most)
    }

    fn fill_from(&mut self, source: u64, most: usize) -> Answer<bool> {
        if self.turn == 0 {
            return Ok(false);
        }
        self.gate.refresh(self.inbox.rx.as_fd());
        let Some(socket) = socket_of(&self.inbox, &mut self.connections, source) else {
            return Ok(false);
        };
        // A full table makes the kernel throw descriptors away. When it could be full, a copy is
        // taken first, and only what arrived whole is removed from the queue.
        let safe = self.gate.records();
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
        let Some(last) = taken.checked_sub(1) else {
            return Ok(false);
        };
        if safe == 0 {
            if records[0].lacks_descriptors() {
                records[0].close_fds();
                return Err(Cause::TableFull);
            }
            if records[0].credentials().is_some() {
                sys::discard(socket)?;
            }
        }
        self.gate.saw(&records[last]);
        self.taken.left = 0..taken;
        self.taken.source = source;
        self.turn -= taken;
        Ok(true)
    }

    /// The next descriptor that the kernel's own call has put into the table.
    fn next_caught(&mut self) -> Option<(OwnedFd, Credentials)> {
        let self_pipe = self.self_pipe.as_ref()?;
        while self.turn > 0 {
            let next = match self.current {
                CAUGHT => self_pipe.next_caught(),
                _ => self_pipe.next_pending(),
            };
            let (fd, sender) = next.ok()?;
            self.turn -= 1;
            if self.gate.admits(sender.uid) {
                return Some((fd, sender));
            }
            self.gate.refuse();
        }
        None
    }

    fn end(&mut self, source: u64) -> Answer<()> {
        if source == RX {
            // The other end is our own: this is the end of signal mode.
            return Err(Cause::ShutDown);
        }
        self.connections.remove(source);
        Ok(())
    }

    /// Counts a thread that found nothing among those that wait.
    #[inline]
    fn before_sleep<T>(&mut self, result: Answer<T>) -> Answer<T> {
        if matches!(result, Err(Cause::Empty)) {
            self.sleepers += 1;
        }
        result
    }

    /// Keeps the pollable descriptor readable while something is left of what was taken, if anybody
    /// might wait there.
    #[inline]
    fn settle(&mut self) {
        let wanted = !self.taken.is_empty() && (self.polled || self.sleepers > 0);
        if self.watched != wanted {
            self.watch_held(wanted);
        }
    }

    /// The sending end can be written to unless the queue is full, in which case the receiving end
    /// can be read: so one of them is always ready while this is watched.
    #[cold]
    fn watch_held(&mut self, wanted: bool) {
        let (data, flags) = (epoll::EventData::new_u64(HELD), epoll::EventFlags::OUT);
        let _ = match wanted {
            true => epoll::add(&self.epoll, &self.inbox.tx, data, flags),
            false => epoll::delete(&self.epoll, &self.inbox.tx),
        };
        self.watched = wanted;
    }

    /// The current source has nothing more, or had its turn: finds the next.
    fn turn_to(&mut self, look: Look) -> Answer<Look> {
        let ready = match look {
            Look::Nowhere => None,
            Look::At(source) => Some(source),
            // Of several that are ready, epoll names another each time.
            Look::Around => next_ready(self.epoll.as_fd(), timespec(Duration::ZERO).as_ref())?,
        };
        self.turn = TURN;
        match ready {
            None => return Err(Cause::Empty),
            Some(source @ (RX | CAUGHT | PENDING | connections::FIRST_ID..)) => {
                self.current = source
            }
            // All that was left has turned out to be no messages.
            Some(HELD) => self.settle(),
            Some(listener) => self.accept(listener)?,
        }
        Ok(Look::Around)
    }

    fn accept(&mut self, source: u64) -> Answer<()> {
        let index = usize::try_from(source - LISTENERS).unwrap_or(usize::MAX);
        let Some(listener) = self.inbox.listeners.get(index) else {
            return Ok(());
        };
        let gate = &mut self.gate;
        for _ in 0..TURN {
            let connections = &mut self.connections;
            let admit = |uid| gate.admits(uid);
            match connections.accept(listener.as_fd(), self.epoll.as_fd(), admit) {
                Ok(connections::Accepted::One) => {}
                Ok(connections::Accepted::None) => break,
                answer => {
                    // The table is as full as it may get. What makes room is to drain those
                    // connections that were let go.
                    match (connections.leaving(), answer) {
                        (Some(id), _) => self.current = id,
                        (None, Err(errno)) => return Err(errno.into()),
                        (None, Ok(_)) => {}
                    }
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What has left the kernel and was not given out yet: records of one source that were taken
/// together, or a descriptor that was caught.
#[derive(Debug, Default)]
struct Taken {
    /// What records are received into, made once: compilers like to clear it when it is made.
    records: Vec<Record>,
    left: Range<usize>,
    source: u64,
    caught: Option<(OwnedFd, Credentials)>,
}

impl Taken {
    #[inline]
    fn is_empty(&self) -> bool {
        self.left.is_empty() && self.caught.is_none()
    }

    #[inline]
    fn room_for(&mut self, count: usize) -> &mut [Record] {
        if self.records.len() < count {
            self.records.resize_with(count, Record::default);
        }
        &mut self.records[..count]
    }
}

type Answer<T> = std::result::Result<T, Cause>;

fn watch(epoll: &OwnedFd, fd: &OwnedFd, source: u64) -> std::result::Result<(), Errno> {
    epoll::add(
        epoll,
        fd,
        epoll::EventData::new_u64(source),
        epoll::EventFlags::IN,
    )
}

fn next_ready(
    epoll: BorrowedFd<'_>,
    time: Option<&Timespec>,
) -> std::result::Result<Option<u64>, Errno> {
    let mut events = [MaybeUninit::uninit(); 1];
    let (ready, _) = epoll::wait(epoll, &mut events, time)?;
    Ok(ready.first().map(|event| event.data.u64()))
}

#[inline]
fn path_of(source: u64) -> Path {
    if source == RX {
        Path::Pidfd
    } else {
        Path::Name
    }
}

#[inline]
fn socket_of<'a>(
    inbox: &'a Inbox,
    connections: &'a mut Connections,
    source: u64,
) -> Option<BorrowedFd<'a>> {
    match source {
        RX => Some(inbox.rx.as_fd()),
        connection => connections.get(connection),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outgoing::{SendOptions, TargetOptions};
    use crate::path::Paths;
    use crate::process;
    use crate::target::Target;
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::net::SendFlags;

    #[test]
    fn what_was_taken_ahead_and_is_no_message_does_not_keep_it_readable() {
        let receiver = Receiver::open(Port::new(2).expect("a port")).expect("a receiver");
        let ready = || {
            let mut fds = [PollFd::new(&receiver, PollFlags::IN)];
            poll(&mut fds, timespec(Duration::ZERO).as_ref()).expect("polled")
        };
        let options = TargetOptions::new().paths(Paths::PIDFD);
        let target =
            Target::open_with(process::own_pid(), receiver.port(), &options).expect("a target");
        // The last message and all that follows it come out of the socket together.
        for _ in 0..=Pace::DENSE {
            target
                .send(&[std::io::stdin().as_fd()], &SendOptions::default())
                .expect("sent");
        }
        for _ in 1..AHEAD {
            let place = lock(receiver.place());
            let tx = &place.as_ref().expect("it listens").inbox.tx;
            rustix::net::send(tx, b"junk", SendFlags::empty()).expect("sent");
        }
        for _ in 0..=Pace::DENSE {
            receiver.recv(Wait::Never).expect("a message");
        }
        assert_eq!(ready(), 1);
        let empty = receiver.recv(Wait::Never).map_err(|error| error.cause());
        assert_eq!(empty.err(), Some(Cause::Empty));
        assert_eq!(ready(), 0);
        assert_eq!(receiver.dropped(), AHEAD as u64 - 1);
    }

    #[test]
    fn closing_wakes_all_threads_that_wait() {
        let receiver = Receiver::open(Port::new(1).expect("a port")).expect("a receiver");
        std::thread::scope(|scope| {
            let wait = || receiver.recv(Wait::Forever).map_err(|error| error.cause());
            let waiting = [scope.spawn(wait), scope.spawn(wait), scope.spawn(wait)];
            receiver.close();
            for thread in waiting {
                let result = thread.join().expect("no panic");
                assert_eq!(result.err(), Some(Cause::Closed));
            }
        });
        let again = Receiver::open(receiver.port()).expect("the signal is free again");
        assert_eq!(
            receiver
                .recv(Wait::Never)
                .map_err(|error| error.cause())
                .err(),
            Some(Cause::Closed)
        );
        drop(receiver);
        let empty = again.recv(Wait::Never).map_err(|error| error.cause());
        assert_eq!(empty.err(), Some(Cause::Empty));
    }
}
