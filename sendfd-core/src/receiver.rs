//! The receiving end as a program sees it: one pollable descriptor, one `recv` for every path.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::slice;
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::{Attempt, Cause, Error, Result};
use crate::message::{Message, Room};
use crate::port::{self, Discarded, OpenPort, Set, Stop};
use crate::ports::{self, Place};
use crate::signal::Port;
use crate::wait::{Deadline, Wait};
use crate::{agent::Agent, fork};

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

/// Receives what other processes send to this process at one port. No signal is raised.
///
/// A process can have one receiver for each port. It owns five descriptors, all close-on-exec: a
/// socket pair, a marker by which senders find it, a listening socket (one more for each further
/// user), an epoll descriptor; and one more for each sender that came by the `name` path, which it
/// lets go again, without loss, when the table gets tight. They are sockets like others in
/// /proc/self/fd: a program that looks for its listeners there will find these too.
///
/// Where messages queue up, and no thread waits here and [`AsFd`] was never used, up to eight are
/// taken from the kernel at once and given out one by one, which is much cheaper. So the descriptors
/// of the next seven may be in this process's table early. They are closed with the receiver, and in
/// a forked child. In a table with fewer than about 2,300 free numbers, or where /proc does not tell
/// how many are open (before Linux 6.2), each message is looked at before it is taken, which costs one
/// more system call for each: nothing is lost whatever other threads open meanwhile.
///
/// What senders sent that are not accepted is closed by threads of the library's own, at most four,
/// which exist only while there is something to close.
///
/// Threads may share a receiver. A forked child's copy receives nothing (`EBADF`) and keeps nothing
/// of its parent's alive. Not for use in a signal handler.
///
/// Dropping it closes what nobody received; senders get `ECONNREFUSED` from then on. To receive what
/// was sent, and then end, see [`Receiver::retire`].
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)
/// - [epoll(7)](https://man7.org/linux/man-pages/man7/epoll.7.html)
#[derive(Debug)]
pub struct Receiver {
    port: Port,
    place: &'static Place,
    /// Tells this receiver from a later one in the same place.
    id: u64,
    set: Set,
    /// Set by [`Receiver::close`]. It keeps `set` ready, so that threads which wait there find out.
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
    /// reached by `pidfd`; [`probe()`](crate::probe()) of this process says so. It takes the address
    /// when that is free: until then it looks now and then, for which it owns one descriptor more,
    /// and may be readable when there is no message.
    ///
    /// # Errors
    /// - `EADDRINUSE`: this process already listens at `port`.
    /// - `EMFILE`, `ENFILE`, `ENOMEM`: as the kernel says.
    pub fn open_with(port: Port, options: &ReceiverOptions<'_>) -> Result<Self> {
        let open = || {
            fork::prepare_for_it()?;
            let (place, id, set) = ports::open(port.signal(), options.uids, options.queue_bytes)?;
            Ok(Receiver {
                port,
                place,
                id,
                set,
                closed: OnceLock::new(),
            })
        };
        open().map_err(|cause: Cause| {
            let sig = port.signal();
            Error::new(Attempt::OpenReceiver { sig }, cause)
        })
    }

    /// The port at which it listens.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// How many records were dropped, with their descriptors closed: from users that are not
    /// accepted, not made by this library, of more descriptors than this process can have, or given
    /// up by [`Receiver::discard`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.with(|port| Ok(port.dropped())).unwrap_or(0)
    }

    /// The number of the descriptor that [`AsFd`] lends, to be shown. Asking for it changes nothing;
    /// who polls takes it from there.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.set.number()
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
    /// out.
    ///
    /// # Errors
    /// - `EAGAIN`: there is no message, and `wait` is [`Wait::Never`]. Among many records that are
    ///   none of ours, one call does not look for it to the end: while the descriptor is readable,
    ///   there may be one.
    /// - `ETIMEDOUT`: none came in time.
    /// - `EINTR`: a signal handler of the program ran while waiting.
    /// - `EMFILE`: this process's descriptor table is full. The message stays, and the next call looks
    ///   at other senders first. (Or, with [`Cause::NeverFits`], the message had more descriptors than
    ///   this process can have at all: it was refused. With [`Cause::CutShort`], the table was filled
    ///   by others in the very moment of receiving, and a message is lost.)
    /// - `EMSGSIZE`: the message needs more room than there is. It is set aside, and the next call with
    ///   enough room gets it first. Calls with less room go on with those behind it; where there are
    ///   none, they are told again, at once, and the descriptor stays readable. [`Receiver::discard`]
    ///   gives it up. (Not with a [`Message`].)
    /// - `ENOMEM`: there is no memory for the message's data, or for a thread that closes what was refused.
    ///   It stays.
    /// - `ESHUTDOWN`: the receiver has retired, and this was all.
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
        let result = self.attempt(|port| port.try_now(rooms, wait != Wait::Never));
        let result = match result {
            Err(Stop::Empty | Stop::Again) if wait == Wait::Never => Err(Cause::Empty),
            Err(Stop::Empty | Stop::Again) => self.wait_for(rooms, wait, result),
            Err(Stop::Failed(cause)) => Err(cause),
            Ok(count) => return Ok(count),
        };
        result.map_err(|cause| self.error(cause))
    }

    fn wait_for<R: Room>(
        &self,
        rooms: &mut [R],
        wait: Wait,
        first: std::result::Result<usize, Stop>,
    ) -> std::result::Result<usize, Cause> {
        let deadline = Deadline::after(wait);
        // However short the time, it was not too short for one look.
        let mut left = deadline.left().or(Some(Duration::ZERO));
        let mut result = first;
        loop {
            result = match result {
                Err(Stop::Empty) => {
                    let slept = self.sleep(left);
                    self.attempt(|port| match slept {
                        Ok(()) => port.woken(rooms),
                        Err(cause) => {
                            port.gave_up();
                            Err(cause.into())
                        }
                    })
                }
                Err(Stop::Again) if left.is_none() => return Err(Cause::NeverCame),
                Err(Stop::Again) => self.attempt(|port| port.try_again(rooms)),
                Err(Stop::Failed(cause)) => return Err(cause),
                Ok(count) => return Ok(count),
            };
            left = deadline.left();
        }
    }

    fn sleep(&self, left: Option<Duration>) -> std::result::Result<(), Cause> {
        let left = left.ok_or(Cause::NeverCame)?;
        match self.set.wait(left)? {
            true => Ok(()),
            false => Err(Cause::NeverCame),
        }
    }

    /// Stops accepting, and goes on receiving: from now on senders get `ECONNREFUSED`, or reach
    /// whoever listens at the port next, which may be a new receiver of this very process. What was
    /// sent before is received to the last, and then receiving fails with `ESHUTDOWN`. The descriptor
    /// stays readable. Does not block; to retire twice does nothing.
    ///
    /// # Errors
    /// - `EBADF`: the receiver was closed, or inherited through fork.
    pub fn retire(&self) -> Result<()> {
        self.with(|port| {
            port.retire();
            Ok(())
        })
        .map_err(|cause| self.error(cause))
    }

    /// Gives up the message of which receiving last said that it does not fit, into the room lent
    /// (`EMSGSIZE`) or into this process's descriptor table (`EMFILE`): closes what it carries.
    ///
    /// Returns whether there was such a message. Waits a tenth of a second at most for what takes long
    /// to close, which then goes on without the caller.
    ///
    /// # Errors
    /// - `ENOMEM`: no thread could be started that closes it. The message stays.
    /// - `EBADF`: the receiver was closed, or inherited through fork.
    pub fn discard(&self) -> Result<bool> {
        let given_up = self
            .with(OpenPort::discard)
            .map_err(|cause| self.error(cause))?;
        match given_up {
            Some(Discarded::Record(mut record)) => {
                port::close_elsewhere(record.split().1.collect());
            }
            Some(Discarded::Elsewhere(done)) => port::wait_for(&done),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Stops listening now, while other threads may still hold the receiver: those that wait in it
    /// fail with `EBADF`. What nobody received is closed; senders get `ECONNREFUSED`.
    ///
    /// Two descriptors stay open until the receiver is dropped. Waits a tenth of a second at most for
    /// what takes long to close, which then goes on without the caller. Does nothing when it is closed,
    /// or was inherited through fork.
    pub fn close(&self) {
        // Locked to the end: who finds the port gone must find out why.
        let mut place = self.place.lock();
        let Some(port) = place.take_if(|port| port.id() == self.id) else {
            return;
        };
        let (slow, tx) = port.close();
        let _ = self.closed.set(tx);
        if self.place.is_orphaned() {
            // The parent closes what is its own.
            return;
        }
        drop(place);
        port::close_elsewhere(slow);
    }

    #[inline]
    fn attempt<T>(
        &self,
        f: impl FnOnce(&mut OpenPort) -> std::result::Result<T, Stop>,
    ) -> std::result::Result<T, Stop> {
        match self.place.with(|port| port.id() == self.id, f) {
            Some(result) => result,
            None if self.closed.get().is_some() => Err(Stop::Failed(Cause::Closed)),
            None => Err(Stop::Failed(Cause::Inherited)),
        }
    }

    /// Runs `f` on this receiver's port, unless a fork left that to the parent.
    fn with<T>(
        &self,
        f: impl FnOnce(&mut OpenPort) -> std::result::Result<T, Cause>,
    ) -> std::result::Result<T, Cause> {
        match self.attempt(|port| f(port).map_err(Stop::Failed)) {
            Ok(value) => Ok(value),
            Err(Stop::Failed(cause)) => Err(cause),
            Err(Stop::Empty | Stop::Again) => Err(Cause::Empty),
        }
    }

    fn error(&self, cause: Cause) -> Error {
        let sig = self.port.signal();
        Error::new(Attempt::Receive { sig }, cause)
    }

    pub(crate) fn employ(&self, agent: Agent) {
        let employed = self.with(|port| {
            port.employ(agent);
            Ok(())
        });
        debug_assert_eq!(employed, Ok(()), "only its agent closes the receiver");
    }
}

#[cfg(feature = "tokio")]
impl Receiver {
    /// The descriptor to poll, for an event loop that keeps it. As with [`AsFd`], no message is taken
    /// ahead from now on.
    pub(crate) fn polled(&self) -> std::sync::Arc<OwnedFd> {
        self.as_fd();
        self.set.shared()
    }

    /// Whether the descriptor is readable.
    pub(crate) fn is_readable(&self) -> bool {
        self.set.is_ready()
    }
}

impl AsFd for Receiver {
    /// To be polled for reading; it is readable whenever there is something to receive. From its
    /// first use on, no message is taken from the kernel before it is asked for.
    fn as_fd(&self) -> BorrowedFd<'_> {
        let _ = self.with(|port| {
            port.polled_from_now_on();
            Ok(())
        });
        self.set.as_fd()
    }
}

impl AsRawFd for Receiver {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outgoing::{SendOptions, TargetOptions};
    use crate::path::Paths;
    use crate::port::{AHEAD, DENSE};
    use crate::process;
    use crate::target::Target;
    use crate::wait::timespec;
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
        for _ in 0..=DENSE {
            target
                .send(&[std::io::stdin().as_fd()], &SendOptions::default())
                .expect("sent");
        }
        for _ in 1..AHEAD {
            let port = receiver.place.lock();
            let tx = port.as_ref().expect("it listens").sending_end();
            rustix::net::send(tx, b"junk", SendFlags::empty()).expect("sent");
        }
        for _ in 0..=DENSE {
            receiver.recv(Wait::Never).expect("a message");
        }
        assert_eq!(ready(), 1);
        let empty = receiver.recv(Wait::Never).map_err(|error| error.cause());
        assert_eq!(empty.err(), Some(Cause::Empty));
        assert_eq!(ready(), 0);
        assert_eq!(receiver.dropped(), AHEAD as u64 - 1);
    }

    #[test]
    fn one_call_receives_more_than_the_kernel_gives_at_once() {
        // In a small table that is one, for each message is looked at first; in a large one it is 32.
        let receiver = Receiver::open(Port::new(8).expect("a port")).expect("a receiver");
        let options = TargetOptions::new().paths(Paths::PIDFD);
        let target =
            Target::open_with(process::own_pid(), receiver.port(), &options).expect("a target");
        for tag in 0..45 {
            target
                .send(&[std::io::stdin().as_fd()], &SendOptions::new().tag(tag))
                .expect("sent");
        }
        let mut rooms: Vec<Message> = (0..40).map(|_| Message::default()).collect();
        assert_eq!(receiver.recv_many(&mut rooms, Wait::Never), Ok(40));
        assert!(rooms.iter().map(|message| message.tag).eq(0..40));
        assert_eq!(receiver.recv_many(&mut rooms, Wait::Never), Ok(5));
        assert!(rooms[..5].iter().map(|message| message.tag).eq(40..45));
    }

    #[test]
    fn a_retired_receiver_gives_out_what_was_sent_and_then_ends() {
        let receiver = Receiver::open(Port::new(5).expect("a port")).expect("a receiver");
        let send =
            |target: &Target| target.send(&[std::io::stdin().as_fd()], &SendOptions::default());
        let targets = [Paths::PIDFD, Paths::NAME].map(|paths| {
            let options = TargetOptions::new().paths(paths);
            let target =
                Target::open_with(process::own_pid(), receiver.port(), &options).expect("a target");
            send(&target).expect("sent");
            target
        });
        receiver.retire().expect("retired");
        for target in &targets {
            let refused = send(target).map_err(|error| error.cause());
            assert_eq!(refused, Err(Cause::NotListening));
        }
        receiver.recv(Wait::Forever).expect("what was sent");
        receiver.recv(Wait::Forever).expect("what was sent");
        for wait in [Wait::Never, Wait::Forever] {
            let end = receiver.recv(wait).map_err(|error| error.cause());
            assert_eq!(end.err(), Some(Cause::Retired));
        }
        let next = Receiver::open(receiver.port()).expect("the port is free");
        for target in &targets {
            send(target).expect("it finds who has the address now");
            next.recv(Wait::Forever).expect("a message");
        }
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
