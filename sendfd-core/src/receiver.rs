//! The receiving end as a program sees it: one pollable descriptor, one `recv` for every path.

use std::collections::VecDeque;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::connections::{self, Connections};
use crate::error::{Attempt, Cause, Error, Result};
use crate::fork::{self, Place};
use crate::inbox::Inbox;
use crate::listen::Agent;
use crate::message::{Credentials, Descriptors, Incoming, Message, Room};
use crate::path::{Path, syscall};
use crate::self_pipe::SelfPipe;
use crate::signal;
use crate::sys::{self, Record};
use crate::wait::{Deadline, Wait, timespec};
use crate::wire::{HEADER_LEN, Header, MAX_FDS};

/// What a receiver may be opened with.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiverOptions<'a> {
    /// Users whose messages are accepted, beside this process's own user and root. Each costs a
    /// descriptor.
    pub uids: &'a [u32],
    /// How many bytes senders that came by `pidfd` can have queued together, by the kernel's count,
    /// in which the smallest record takes about 768. 0 is the kernel's default (212,992, some 277
    /// records). Above `net.core.wmem_max` only for root.
    pub queue_bytes: u32,
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
    sig: i32,
    /// Tells this receiver from a later one of this process on the same signal.
    id: u64,
    epoll: Arc<OwnedFd>,
    pace: Pace,
    /// Set by [`Receiver::close`]. It keeps `epoll` ready, so that threads which wait there find out.
    closed: OnceLock<OwnedFd>,
}

impl Receiver {
    /// Listens on `sig`, with the default options.
    ///
    /// # Errors
    /// As [`Receiver::open_with`].
    pub fn open(sig: i32) -> Result<Self> {
        Self::open_with(sig, &ReceiverOptions::default())
    }

    /// Listens on `sig`, from [`rtmin`](crate::rtmin) to [`rtmax`](crate::rtmax). Does not block.
    ///
    /// If another process sits on the abstract address, the receiver opens all the same and can be
    /// reached by `pidfd`; [`probe()`](crate::probe()) of this process says so.
    ///
    /// # Errors
    /// - `EINVAL`: `sig` is not a real-time signal.
    /// - `EADDRINUSE`: this process already listens on `sig`, or (where the kernel has sendfd(2))
    ///   has a handler for it.
    /// - `EMFILE`, `ENFILE`, `ENOMEM`: as the kernel says.
    pub fn open_with(sig: i32, options: &ReceiverOptions<'_>) -> Result<Self> {
        let catches = syscall::number().is_some();
        Self::open_place(sig, options, catches)
            .map_err(|cause| Error::new(Attempt::OpenReceiver { sig }, cause))
    }

    /// For signal mode: the process itself takes the signals that the kernel raises.
    pub(crate) fn open_for_agent(sig: i32) -> Answer<Self> {
        Self::open_place(sig, &ReceiverOptions::default(), false)
    }

    fn open_place(sig: i32, options: &ReceiverOptions<'_>, catches: bool) -> Answer<Self> {
        signal::check(sig)?;
        fork::prepare_for_it()?;
        let mut place = fork::lock(fork::place(sig));
        if place.is_some() {
            return Err(Cause::AlreadyListening);
        }
        let state = State::open(sig, options, catches)?;
        let receiver = Receiver {
            sig,
            id: state.id,
            epoll: Arc::clone(&state.epoll),
            pace: Pace::default(),
            closed: OnceLock::new(),
        };
        *place = Some(state);
        Ok(receiver)
    }

    /// The signal that it listens on.
    #[must_use]
    pub fn sig(&self) -> i32 {
        self.sig
    }

    /// How many records were dropped, with their descriptors closed: from users that are not
    /// accepted, or not made by this library.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.with(|state| Ok(state.dropped)).unwrap_or(0)
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
        self.receive(wait, |state, look| state.take(room, look))
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
        self.receive(wait, |state, look| state.take_many(rooms, look))
    }

    /// Stops listening now, while other threads may still hold the receiver: those that wait in it
    /// fail with `EBADF`. What nobody received is closed; senders get `ECONNREFUSED`.
    ///
    /// Two descriptors stay open until the receiver is dropped. Does nothing when it is closed, or
    /// was inherited through fork.
    pub fn close(&self) {
        // Locked to the end: who finds the state gone must find out why.
        let mut place = fork::lock(self.place());
        let Some(state) = place.take_if(|state| state.id == self.id) else {
            return;
        };
        // The sending end of a closed inbox can always be written to, without success.
        let tx = state.close();
        let data = epoll::EventData::new_u64(HELD);
        let _ = epoll::delete(&self.epoll, &tx);
        let _ = epoll::add(&self.epoll, &tx, data, epoll::EventFlags::OUT);
        let _ = self.closed.set(tx);
    }

    #[inline]
    fn receive<T>(
        &self,
        wait: Wait,
        mut take: impl FnMut(&mut State, Look) -> Answer<T>,
    ) -> Result<T> {
        let deadline = Deadline::after(wait);
        // Who waits anyway learns from the wait where to look.
        let mut look = match wait {
            Wait::Never => Look::Around,
            _ if self.pace.is_slow() => self.sleep(deadline)?,
            _ => Look::Nowhere,
        };
        loop {
            match self.with(|state| take(state, look)) {
                Err(Cause::Empty) if deadline.waits() => {
                    self.pace.missed();
                    look = self.sleep(deadline)?;
                }
                result => {
                    if matches!(look, Look::Nowhere) {
                        self.pace.hit();
                    }
                    return result.map_err(|cause| self.error(cause));
                }
            }
        }
    }

    fn sleep(&self, deadline: Deadline) -> Result<Look> {
        let handled = sys::handled();
        let sleep = || {
            let left = deadline.left().ok_or(Cause::NeverCame)?;
            match next_ready(self.epoll.as_fd(), timespec(left).as_ref()) {
                Ok(ready) => ready.map(Look::At).ok_or(Cause::NeverCame),
                // Not a signal of the program's: it has brought a message.
                Err(Errno::INTR) if sys::handled() != handled => Ok(Look::Around),
                Err(errno) => Err(errno.into()),
            }
        };
        sleep().map_err(|cause| self.error(cause))
    }

    /// Runs `f` on this receiver's state, unless a fork left that to the parent.
    #[inline]
    fn with<T>(&self, f: impl FnOnce(&mut State) -> Answer<T>) -> Answer<T> {
        let mut place = fork::lock(self.place());
        match place.as_mut().filter(|state| state.id == self.id) {
            Some(state) => f(state),
            None if self.closed.get().is_some() => Err(Cause::Closed),
            None => Err(Cause::Inherited),
        }
    }

    fn error(&self, cause: Cause) -> Error {
        Error::new(Attempt::Receive { sig: self.sig }, cause)
    }

    fn place(&self) -> &'static Place {
        fork::place(self.sig)
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
    /// To be polled for reading; it is readable whenever there is something to receive.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl AsRawFd for Receiver {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.epoll.as_raw_fd()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut place = fork::lock(self.place());
        let own = place.take_if(|state| state.id == self.id);
        // Closing many descriptors takes a while; nobody need wait for it.
        drop(place);
        drop(own);
    }
}

/// How densely messages come. Where each is waited for, trying the socket before every wait is a
/// system call for nothing; where they queue up, waiting before every try is.
#[derive(Debug, Default)]
struct Pace {
    /// How many tries in a row found nothing, and how many calls since did not try.
    misses: AtomicU32,
}

impl Pace {
    const SLOW: u32 = 4;
    const TRY_AGAIN: u32 = Self::SLOW + 16;

    /// Whether to wait before trying, which has to be reconsidered now and then.
    fn is_slow(&self) -> bool {
        let misses = self.misses.load(Ordering::Relaxed);
        if misses < Self::SLOW {
            return false;
        }
        let slow = misses < Self::TRY_AGAIN;
        self.misses.store(
            if slow { misses + 1 } else { Self::SLOW - 1 },
            Ordering::Relaxed,
        );
        slow
    }

    fn missed(&self) {
        let misses = self.misses.load(Ordering::Relaxed);
        if misses < Self::SLOW {
            self.misses.store(misses + 1, Ordering::Relaxed);
        }
    }

    fn hit(&self) {
        if self.misses.load(Ordering::Relaxed) != 0 {
            self.misses.store(0, Ordering::Relaxed);
        }
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
/// Ready as long as a held message waits to be given out.
const HELD: u64 = 1;
/// The two of [`SelfPipe`].
const CAUGHT: u64 = 2;
const PENDING: u64 = 3;
const LISTENERS: u64 = 4;

/// How many messages are taken from one source before the others are looked at.
const TURN: u32 = 32;

/// Everything of a receiver that one thread at a time works on.
///
/// One lock is enough: the kernel, too, lets only one thread at a time receive from a socket.
#[derive(Debug)]
pub(crate) struct State {
    id: u64,
    sig: i32,
    epoll: Arc<OwnedFd>,
    inbox: Inbox,
    /// Where the kernel has sendfd(2), which raises a signal.
    self_pipe: Option<SelfPipe>,
    connections: Connections,
    /// The source of the last message, and how many more it may give before others have a turn.
    current: u64,
    turn: u32,
    /// Messages that have left the kernel but did not fit the room lent for them.
    held: VecDeque<Message>,
    table: Table,
    users: Users,
    dropped: u64,
    /// When `table` and `users` were last known to be right.
    known: u64,
    /// What a message is received into, made once: compilers like to clear it when it is made.
    record: Option<Box<Record>>,
    /// The same for [`Receiver::recv_many`], made at its first use.
    records: Vec<Record>,
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
        let table = Table::now(epoll.as_fd());
        let mut self_pipe = None;
        if catches {
            let pipe = SelfPipe::open(sig, table.limit)?;
            watch(&epoll, &pipe.caught, CAUGHT)?;
            watch(&epoll, &pipe.pending, PENDING)?;
            self_pipe = Some(pipe);
        }
        Ok(State {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            sig,
            table,
            epoll: Arc::new(epoll),
            inbox,
            self_pipe,
            connections: Connections::default(),
            current: RX,
            turn: TURN,
            held: VecDeque::new(),
            users: Users {
                own: sys::own_users(),
                more: options.uids.to_vec(),
            },
            dropped: 0,
            known: 0,
            record: None,
            records: Vec::new(),
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

    #[inline]
    fn take(&mut self, room: &mut impl Room, mut look: Look) -> Answer<()> {
        if !self.held.is_empty() {
            return self.give_held(room);
        }
        // Lent out, so that what follows can use the rest of the state.
        let mut record = self.record.take().unwrap_or_default();
        let result = loop {
            if let Some(caught) = self.next_caught() {
                break self.give_caught(caught, room);
            }
            match self.next(&mut record) {
                Ok(Some(accepted)) => break self.give(&mut record, accepted, room),
                Ok(None) => match self.turn_to(look) {
                    Ok(next) => look = next,
                    Err(cause) => break Err(cause),
                },
                Err(cause) => break Err(cause),
            }
        };
        self.record = Some(record);
        result
    }

    fn take_many<R: Room>(&mut self, rooms: &mut [R], mut look: Look) -> Answer<usize> {
        let mut given = 0;
        while !self.held.is_empty() && given < rooms.len() {
            match self.give_held(&mut rooms[given]) {
                Ok(()) => given += 1,
                Err(cause) if given == 0 => return Err(cause),
                Err(_) => break,
            }
        }
        if given > 0 {
            return Ok(given);
        }
        loop {
            let batch = self.batch(rooms.len());
            if batch < 2 {
                return self.take(&mut rooms[0], look).map(|()| 1);
            }
            match self.next_many(batch, rooms) {
                Ok(0) => look = self.turn_to(look)?,
                result => return result,
            }
        }
    }

    /// The next descriptor that the kernel's own call has put into the table.
    #[inline]
    fn next_caught(&mut self) -> Option<(OwnedFd, Credentials)> {
        let self_pipe = self.self_pipe.as_ref()?;
        while self.turn > 0 {
            let next = match self.current {
                CAUGHT => self_pipe.next_caught(),
                PENDING => self_pipe.next_pending(),
                _ => return None,
            };
            let (fd, sender) = next.ok()?;
            self.turn -= 1;
            if self.users.admit(sender.uid) {
                return Some((fd, sender));
            }
            self.dropped += 1;
        }
        None
    }

    fn give_caught(
        &mut self,
        (fd, sender): (OwnedFd, Credentials),
        room: &mut impl Room,
    ) -> Answer<()> {
        let path = Path::Syscall;
        if room.room().0 == 0 {
            self.hold_message(Message {
                fds: vec![fd],
                sender,
                path,
                ..Message::default()
            });
            room.needs(1, 0);
            return Err(Cause::RoomTooSmall { fds: 1, data: 0 });
        }
        room.put(Incoming {
            fds: Descriptors::from(fd),
            data: &[],
            tag: 0,
            sender,
            path,
        });
        Ok(())
    }

    /// The next good record of the current source; `None` when that is empty or had its turn.
    #[inline]
    fn next(&mut self, record: &mut Record) -> Answer<Option<Accepted>> {
        let source = self.current;
        if source != RX && self.connections.is_fresh(source) {
            let mut last = 0;
            while let Some(older) = self.connections.older(source, last) {
                if let Some(accepted) = self.next_of(older, record)? {
                    return Ok(Some(accepted));
                }
                last = older;
            }
            self.connections.ripen(source);
        }
        self.next_of(source, record)
    }

    #[inline]
    fn next_of(&mut self, source: u64, record: &mut Record) -> Answer<Option<Accepted>> {
        while self.turn > 0 {
            self.refresh();
            let Some(socket) = socket_of(&self.inbox, &mut self.connections, source) else {
                return Ok(None);
            };
            // A full table makes the kernel throw descriptors away. When it could be full, a copy
            // is taken first, and only what arrived whole is removed from the queue.
            let careful = self.table.is_tight();
            match sys::receive(socket, record, careful) {
                Ok(()) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::CONNRESET) => continue,
                Err(errno) => return Err(errno.into()),
            }
            if careful && record.lacks_descriptors() {
                record.close_fds();
                return Err(Cause::TableFull);
            }
            if careful && record.credentials().is_some() {
                sys::discard(socket)?;
            }
            self.turn -= 1;
            match self.judge(source, record) {
                Verdict::Good(accepted) => return Ok(Some(accepted)),
                Verdict::Dropped => {}
                Verdict::End => {
                    self.end(source)?;
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Receives as many records of the current source as there are, `batch` at most, into `rooms`.
    /// 0 when it is empty or had its turn.
    fn next_many<R: Room>(&mut self, batch: usize, rooms: &mut [R]) -> Answer<usize> {
        let Some(socket) = socket_of(&self.inbox, &mut self.connections, self.current) else {
            return Ok(0);
        };
        if self.turn == 0 {
            return Ok(0);
        }
        self.records.resize_with(sys::BATCH, Record::default);
        // Lent out, so that what follows can use the rest of the state.
        let mut records = mem::take(&mut self.records);
        let result = match sys::receive_many(socket, &mut records[..batch]) {
            Ok(received) => self.give_many(&mut records[..received], rooms),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNRESET) => Ok(0),
            Err(errno) => Err(errno.into()),
        };
        self.records = records;
        result
    }

    /// Gives the good ones of a batch out, in order. From the first on that does not fit its room,
    /// all are held.
    fn give_many<R: Room>(&mut self, records: &mut [Record], rooms: &mut [R]) -> Answer<usize> {
        self.turn = self.turn.saturating_sub(records.len() as u32);
        let mut given = 0;
        for record in records {
            match self.judge(self.current, record) {
                Verdict::Good(accepted) if self.held.is_empty() => {
                    if self.give(record, accepted, &mut rooms[given]).is_ok() {
                        given += 1;
                    }
                }
                Verdict::Good(accepted) => self.hold(record, accepted),
                Verdict::Dropped => {}
                Verdict::End => {
                    self.end(self.current)?;
                    break;
                }
            }
        }
        match self.held.front() {
            Some(held) if given == 0 => Err(held.too_big()),
            _ => Ok(given),
        }
    }

    /// How many records can be taken at once without looking first: as many as the table has room
    /// for, whatever they carry.
    fn batch(&mut self, wanted: usize) -> usize {
        self.refresh();
        if self.current != RX
            && (self.current < connections::FIRST_ID || self.connections.is_fresh(self.current))
        {
            return 1;
        }
        wanted.min(sys::BATCH).min(self.table.headroom() / MAX_FDS)
    }

    /// Whether a record is a message for us.
    #[inline]
    fn judge(&mut self, source: u64, record: &mut Record) -> Verdict {
        let Some(sender) = record.credentials() else {
            // Every record bears them. What does not is the end of the stream.
            return Verdict::End;
        };
        if let Some(number) = record.last_fd() {
            self.table.lowest = number as u64;
        }
        let header = Header::parse(record.bytes()).filter(|header| {
            header.sig == self.sig
                && usize::from(header.nfds) == record.fd_count()
                && !record.is_cut()
                && !record.lacks_descriptors()
        });
        match header {
            Some(header) if self.users.admit(sender.uid) => Verdict::Good(Accepted {
                header,
                sender,
                path: if source == RX {
                    Path::Pidfd
                } else {
                    Path::Name
                },
            }),
            _ => {
                record.close_fds();
                self.dropped += 1;
                Verdict::Dropped
            }
        }
    }

    fn end(&mut self, source: u64) -> Answer<()> {
        if source == RX {
            // The other end is our own: this is the end of signal mode.
            return Err(Cause::ShutDown);
        }
        self.connections.remove(source);
        Ok(())
    }

    #[inline]
    fn give(
        &mut self,
        record: &mut Record,
        accepted: Accepted,
        room: &mut impl Room,
    ) -> Answer<()> {
        let (max_fds, max_data) = room.room();
        let (fds, data) = (record.fd_count(), accepted.header.data_len as usize);
        if fds > max_fds || data > max_data {
            self.hold(record, accepted);
            room.needs(fds, data);
            return Err(Cause::RoomTooSmall { fds, data });
        }
        accepted.put(record, room);
        Ok(())
    }

    fn hold(&mut self, record: &mut Record, accepted: Accepted) {
        let mut message = Message::default();
        accepted.put(record, &mut message);
        self.hold_message(message);
    }

    fn hold_message(&mut self, message: Message) {
        if self.held.is_empty() {
            // The message has left its socket, which no longer wakes anybody for it. The sending
            // end can be written to unless the queue is full, in which case the receiving end can
            // be read: so one of them is always ready while this is watched.
            let _ = epoll::add(
                &self.epoll,
                &self.inbox.tx,
                epoll::EventData::new_u64(HELD),
                epoll::EventFlags::OUT,
            );
        }
        self.held.push_back(message);
    }

    fn give_held(&mut self, room: &mut impl Room) -> Answer<()> {
        let Some(mut message) = self.held.pop_front() else {
            return Err(Cause::Empty);
        };
        let (max_fds, max_data) = room.room();
        let (fds, data) = (message.fds.len(), message.data.len());
        if fds > max_fds || data > max_data {
            self.held.push_front(message);
            room.needs(fds, data);
            return Err(Cause::RoomTooSmall { fds, data });
        }
        if self.held.is_empty() {
            let _ = epoll::delete(&self.epoll, &self.inbox.tx);
        }
        room.put(message.incoming());
        Ok(())
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
            Some(HELD) => {}
            Some(listener) => self.accept(listener)?,
        }
        Ok(Look::Around)
    }

    fn accept(&mut self, source: u64) -> Answer<()> {
        let index = usize::try_from(source - LISTENERS).unwrap_or(usize::MAX);
        let Some(listener) = self.inbox.listeners.get(index) else {
            return Ok(());
        };
        let users = &self.users;
        for _ in 0..TURN {
            let connections = &mut self.connections;
            let admit = |uid| users.admit(uid);
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

    /// Looks again at what may have changed since it was last asked for.
    #[inline]
    fn refresh(&mut self) {
        let now = sys::nanoseconds();
        if now.wrapping_sub(self.known) > FRESH {
            self.known = now;
            self.ask_again();
        }
    }

    #[cold]
    fn ask_again(&mut self) {
        self.table = Table::now(self.epoll.as_fd());
        self.users.own = sys::own_users();
    }
}

/// For how long, in nanoseconds, the limit of the table and the user of this process are taken for
/// what they were. No process fills the part of its table that is left as a margin in so short a
/// time, and asking so often costs a steady stream half a percent.
const FRESH: u64 = 200_000;

type Answer<T> = std::result::Result<T, Cause>;

/// What became of a record.
enum Verdict {
    Good(Accepted),
    Dropped,
    End,
}

/// What is known of a record that is a message for us.
#[derive(Clone, Copy)]
struct Accepted {
    header: Header,
    sender: Credentials,
    path: Path,
}

impl Accepted {
    #[inline]
    fn put(self, record: &mut Record, room: &mut impl Room) {
        record.split(|data, fds| {
            room.put(Incoming {
                fds: Descriptors::from(fds),
                data: data.get(HEADER_LEN..).unwrap_or_default(),
                tag: self.header.tag,
                sender: self.sender,
                path: self.path,
            });
        });
    }
}

/// Whose messages are accepted: those of the users that may signal this process.
#[derive(Debug)]
struct Users {
    /// The real and the saved user of this process.
    own: [u32; 2],
    more: Vec<u32>,
}

impl Users {
    #[inline]
    fn admit(&self, uid: u32) -> bool {
        uid == 0 || self.own.contains(&uid) || self.more.contains(&uid)
    }
}

/// How full this process's descriptor table is. Numbers are given out lowest first, so that the
/// number of the last descriptor received says it, for as long as messages come one after another.
#[derive(Clone, Copy, Debug)]
struct Table {
    lowest: u64,
    limit: u64,
}

impl Table {
    fn now(any: BorrowedFd<'_>) -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        // The lowest free number, found by taking it.
        let free = rustix::io::fcntl_dupfd_cloexec(any, 0);
        let lowest = free.map_or(limit, |free| free.as_raw_fd() as u64);
        Table { lowest, limit }
    }

    /// How many descriptors can safely be taken, leaving room for what the rest of the process
    /// opens at the same time.
    #[inline]
    fn headroom(&self) -> usize {
        let margin = (self.limit / 4).clamp(64, 4096);
        let free = self
            .limit
            .saturating_sub(self.lowest)
            .saturating_sub(margin);
        usize::try_from(free).unwrap_or(usize::MAX)
    }

    #[inline]
    fn is_tight(&self) -> bool {
        self.headroom() < MAX_FDS
    }
}

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

    #[test]
    fn closing_wakes_all_threads_that_wait() {
        let receiver = Receiver::open(signal::rtmax() - 1).expect("a receiver");
        std::thread::scope(|scope| {
            let wait = || receiver.recv(Wait::Forever).map_err(|error| error.cause());
            let waiting = [scope.spawn(wait), scope.spawn(wait), scope.spawn(wait)];
            receiver.close();
            for thread in waiting {
                let result = thread.join().expect("no panic");
                assert_eq!(result.err(), Some(Cause::Closed));
            }
        });
        let again = Receiver::open(receiver.sig()).expect("the signal is free again");
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
