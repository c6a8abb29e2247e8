//! Receiving and sending that wait in a tokio runtime.
//!
//! Nothing here blocks a thread of the runtime. All of it needs a runtime whose I/O and time drivers
//! are enabled (`enable_all`, as `#[tokio::main]` does), and panics as tokio's own types do where that
//! is not so.
//!
//! A process that hands each connection to a worker, and a worker:
//!
//! ```no_run
//! use std::os::fd::AsFd;
//! use sendfd_core::{Port, SendOptions, Wait, tokio::{Receiver, send_with}};
//!
//! # async fn front(worker: u32, port: Port) -> Result<(), Box<dyn std::error::Error>> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! let options = SendOptions::new().wait(Wait::Forever);
//! loop {
//!     let (connection, _) = listener.accept().await?;
//!     send_with(worker, port, &[connection.as_fd()], &options).await?;
//! }
//! # }
//!
//! # async fn worker(port: Port) -> Result<(), Box<dyn std::error::Error>> {
//! let mut receiver = Receiver::open(port)?;
//! while let Some(message) = receiver.next().await {
//!     for fd in message?.fds {
//!         let connection = std::net::TcpStream::from(fd);
//!         connection.set_nonblocking(true)?;
//!         tokio::spawn(serve(tokio::net::TcpStream::from_std(connection)?));
//!     }
//! }
//! # Ok(()) }
//! # async fn serve(_: tokio::net::TcpStream) {}
//! ```

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::slice;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use ::tokio::task::coop::consume_budget;
use ::tokio::time::{Sleep, sleep};
use futures_core::Stream;
use futures_core::stream::FusedStream;
use rustix::io::Errno;

use crate::cache;
use crate::error::{Attempt, Cause, Error, Result};
use crate::message::{Message, Room};
use crate::outgoing::{Key, Outgoing, Patience, SendOptions, TargetOptions};
use crate::passengers::Passengers;
use crate::path::Paths;
use crate::process;
use crate::reach;
use crate::receiver::{self, ReceiverOptions};
use crate::signal::Port;
use crate::sys;
use crate::target::{Opening, Pause, Target, passes};
use crate::wait::Wait;

type Answer<T> = std::result::Result<T, Cause>;

// ---------------------------------------------------------------- receiving

/// A [`Receiver`](receiver::Receiver) that is awaited. It owns that, and costs no descriptor more.
///
/// [`recv`](Receiver::recv) gives one message; several tasks may await it at the same time. As a
/// [`Stream`], or with [`next`](Receiver::next), it is a loop that goes on by itself.
///
/// All futures here may be dropped at any time, as `select!` does: a message either comes out of a
/// future that has finished, or stays for the next.
///
/// What closes and retires is a method of the receiver inside: see [`get_ref`](Receiver::get_ref). A task
/// that waits finds out.
#[derive(Debug)]
pub struct Receiver {
    receiver: receiver::Receiver,
    set: AsyncFd<Arc<OwnedFd>>,
    stream: Going,
}

/// How the stream goes on.
#[derive(Debug, Default)]
struct Going {
    /// What was reported last and may still be so.
    reported: Option<Cause>,
    /// Until when not to try again.
    pause: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

/// How long a stream waits for room in a full table: nothing tells when there is some.
const PAUSE: Duration = Duration::from_millis(20);

impl Receiver {
    /// Listens at `port`, with the default options.
    ///
    /// # Errors
    /// As [`Receiver::new`] and [`Receiver::open`](receiver::Receiver::open).
    pub fn open(port: Port) -> Result<Self> {
        Self::open_with(port, &ReceiverOptions::new())
    }

    /// Listens at `port`. Does not block.
    ///
    /// # Errors
    /// As [`Receiver::new`] and [`Receiver::open_with`](receiver::Receiver::open_with).
    pub fn open_with(port: Port, options: &ReceiverOptions<'_>) -> Result<Self> {
        Self::new(receiver::Receiver::open_with(port, options)?)
    }

    /// Has the current runtime watch `receiver`, which is closed on an error.
    ///
    /// # Errors
    /// - `ENOMEM`: the kernel watches no more descriptors for this user (epoll(7),
    ///   `max_user_watches`), or there is no memory.
    /// - `EBADF`: the runtime is being shut down.
    ///
    /// # Panics
    /// Outside of a runtime, and in one without its I/O driver.
    pub fn new(receiver: receiver::Receiver) -> Result<Self> {
        match sys::polled(receiver.polled()) {
            Ok(set) => Ok(Receiver {
                receiver,
                set,
                stream: Going::default(),
            }),
            Err(error) => {
                let sig = receiver.port().signal();
                Err(Error::new(
                    Attempt::OpenReceiver { sig },
                    of_runtime(&error),
                ))
            }
        }
    }

    /// The receiver inside, to ask it for its port, to close or to retire it. Its own `recv` may be
    /// called with [`Wait::Never`]; with another wait it would block the runtime.
    #[must_use]
    pub fn get_ref(&self) -> &receiver::Receiver {
        &self.receiver
    }

    /// The receiver, no longer watched by the runtime. No message is lost.
    #[must_use]
    pub fn into_inner(self) -> receiver::Receiver {
        self.receiver
    }

    /// Receives one message into a new [`Message`]. See [`Receiver::recv_many`].
    ///
    /// # Errors
    /// As [`Receiver::recv_many`].
    pub async fn recv(&self) -> Result<Message> {
        let mut message = Message::default();
        self.recv_into(&mut message).await?;
        Ok(message)
    }

    /// Receives one message into `room`. See [`Receiver::recv_many`].
    ///
    /// # Errors
    /// As [`Receiver::recv_many`].
    pub async fn recv_into(&self, room: &mut impl Room) -> Result<()> {
        self.recv_many(slice::from_mut(room)).await.map(drop)
    }

    /// Receives as many messages as are there, one for each of `rooms` at most. Waits while there is
    /// none; having one, it does not wait for more. Returns how many of `rooms` were filled, from the
    /// first on.
    ///
    /// The descriptors that come out are the rooms', close-on-exec. Dropped before it has finished,
    /// nothing has come out, and nothing is lost.
    ///
    /// # Errors
    /// As [`Receiver::recv_into`](receiver::Receiver::recv_into) without a limit of time. A message that
    /// finds the table full (`EMFILE`) stays, and each call says so at once: who calls again should
    /// close something first, or wait, as [`next`](Receiver::next) does. Also `EBADF` when the runtime
    /// is being shut down.
    pub async fn recv_many<R: Room>(&self, rooms: &mut [R]) -> Result<usize> {
        loop {
            // Before anything is taken: here the task may be told to let others run.
            consume_budget().await;
            let mut ready = self.set.readable().await.map_err(|e| self.error(&e))?;
            if let Some(result) = self.attempt(&mut ready, rooms) {
                return result;
            }
        }
    }

    /// The next message of a loop that goes on by itself; `None` once the receiver has retired and all
    /// was received.
    ///
    /// Unlike [`recv`](Receiver::recv) it reports once that this process's descriptor table is full, or
    /// that there is no memory, and tries again when asked for the next until that is over. An error
    /// after which nothing more can come (`EBADF`: closed, inherited through fork, the runtime is being
    /// shut down) is the last item but `None`.
    ///
    /// It may be dropped at any time, and nothing is lost. The same as the receiver's [`Stream`].
    pub async fn next(&mut self) -> Option<Result<Message>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Tries to receive. `None` if there is nothing; the runtime then tells when there may be.
    fn attempt<R: Room>(
        &self,
        ready: &mut AsyncFdReadyGuard<'_, Arc<OwnedFd>>,
        rooms: &mut [R],
    ) -> Option<Result<usize>> {
        match self.receiver.recv_many(rooms, Wait::Never) {
            Err(error) if error.cause() == Cause::Empty => {
                // The runtime tells of changes alone, and one call does not look through any number
                // of records that are no messages.
                if !self.receiver.is_readable() {
                    ready.clear_ready();
                }
                None
            }
            result => Some(result),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message>>> {
        if self.stream.ended {
            return Poll::Ready(None);
        }
        let mut message = Message::default();
        loop {
            if let Some(pause) = &mut self.stream.pause {
                ready!(pause.as_mut().poll(cx));
                self.stream.pause = None;
            }
            let received = match ready!(self.set.poll_read_ready(cx)) {
                Ok(mut ready) => self.attempt(&mut ready, slice::from_mut(&mut message)),
                Err(error) => Some(Err(self.error(&error))),
            };
            let item = match received {
                None => continue,
                Some(Ok(_)) => {
                    self.stream.reported = None;
                    Some(Ok(message))
                }
                Some(Err(error)) => match error.cause() {
                    Cause::Retired => {
                        self.stream.ended = true;
                        None
                    }
                    Cause::Closed | Cause::Inherited => {
                        self.stream.ended = true;
                        Some(Err(error))
                    }
                    // The message is gone, so the next try is about another.
                    Cause::NeverFits { .. } | Cause::CutShort => Some(Err(error)),
                    cause => {
                        self.stream.pause = Some(Box::pin(sleep(PAUSE)));
                        if self.stream.reported.replace(cause) == Some(cause) {
                            continue;
                        }
                        Some(Err(error))
                    }
                },
            };
            return Poll::Ready(item);
        }
    }

    fn error(&self, error: &io::Error) -> Error {
        let sig = self.receiver.port().signal();
        Error::new(Attempt::Receive { sig }, of_runtime(error))
    }
}

/// What the runtime says without an errno is that it ends.
fn of_runtime(error: &io::Error) -> Cause {
    Errno::from_io_error(error).map_or(Cause::Closed, Cause::from)
}

impl AsFd for Receiver {
    /// The descriptor that the runtime watches.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.get_ref().as_fd()
    }
}

/// The messages, as by [`Receiver::next`].
impl Stream for Receiver {
    type Item = Result<Message>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx)
    }
}

impl FusedStream for Receiver {
    fn is_terminated(&self) -> bool {
        self.stream.ended
    }
}

// ---------------------------------------------------------------- sending

/// Sends duplicates of `fds` in one message, as [`send_with`](crate::send_with) does, and waits in the
/// runtime for as long as [`SendOptions::wait`] allows. The time counts from the call.
///
/// What is sent is what the descriptors are when this is called: it duplicates them at once, and the
/// future owns the duplicates until it is done. So the caller may close its own before awaiting, and
/// what is sent needs as many free numbers in this process's table. Dropped before it is done, it has
/// sent nothing.
///
/// Nothing tells a runtime of room in a queue, so while a target's is full this tries again after 1, 2
/// and then every 4 milliseconds; while it does not listen, every 20.
///
/// ```no_run
/// # use std::{fs::File, os::fd::AsFd, time::Duration};
/// # use sendfd_core::{Port, SendOptions, Wait};
/// # async fn example(pid: u32, port: Port) -> Result<(), Box<dyn std::error::Error>> {
/// let file = File::open("/etc/hostname")?;
/// let options = SendOptions::new().wait(Wait::For(Duration::from_secs(5)));
/// sendfd_core::tokio::send_with(pid, port, &[file.as_fd()], &options).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`send_with`](crate::send_with), except for `EINTR`.
///
/// # Panics
/// When it has to wait in a runtime without its time driver.
pub fn send_with<'a>(
    pid: u32,
    port: Port,
    fds: &[BorrowedFd<'_>],
    options: &SendOptions<'a>,
) -> impl Future<Output = Result<()>> + Send + use<'a> {
    let held = Held::new(port, fds, options);
    let options = *options;
    async move {
        let sent = send_cached(pid, port, held, &options).await;
        sent.map_err(|cause| {
            let sig = port.signal();
            let cause = reach::with_neighbours(cause, pid, sig);
            Error::new(Attempt::Send { pid, sig }, cause)
        })
    }
}

/// Opens process `pid` at `port`, as [`Target::open_with`] does, and waits in the runtime for as long as
/// [`TargetOptions::wait`] allows for a target that does not listen yet.
///
/// # Errors
/// As [`Target::open_with`], except for `EINTR`.
///
/// # Panics
/// As [`send_with`].
pub async fn open_target(pid: u32, port: Port, options: &TargetOptions) -> Result<Target> {
    let patience = Patience::new(options.wait, options.wait_for);
    let opened = open_until(pid, port, options.paths, patience).await;
    opened.map_err(|cause| {
        let sig = port.signal();
        let cause = reach::with_neighbours(cause, pid, sig);
        Error::new(Attempt::OpenTarget { pid, sig }, cause)
    })
}

/// Sends duplicates of `fds` in one message, as [`Target::send`] does, and waits in the runtime for as long
/// as [`SendOptions::wait`] allows. Holds what it sends as [`send_with`] does.
///
/// What one task awaits one after the other arrives in that order.
///
/// # Errors
/// As [`Target::send`], except for `EINTR`; and `EMFILE` where the duplicates find no room.
///
/// # Panics
/// As [`send_with`].
pub fn send_to<'a>(
    target: &'a Target,
    fds: &[BorrowedFd<'_>],
    options: &SendOptions<'a>,
) -> impl Future<Output = Result<()>> + Send + use<'a> {
    let held = Held::new(target.port(), fds, options);
    let options = *options;
    async move {
        let sent = match held {
            Ok(held) => held.send_to(target, &options).await,
            Err(cause) => Err(cause),
        };
        sent.map_err(|cause| {
            let (pid, sig) = (target.pid(), target.port().signal());
            Error::new(Attempt::Send { pid, sig }, cause)
        })
    }
}

/// What is to be sent, from the moment of the call, and until when.
struct Held {
    fds: Vec<OwnedFd>,
    patience: Patience,
}

impl Held {
    fn new(port: Port, fds: &[BorrowedFd<'_>], options: &SendOptions<'_>) -> Answer<Self> {
        // Bad arguments are found before anything is duplicated.
        Outgoing::new(port, fds.len(), options.tag, options.data)?;
        let mut passengers = Passengers::new(fds);
        passengers.hold()?;
        Ok(Held {
            fds: passengers.into_held(),
            patience: Patience::new(options.wait, options.wait_for),
        })
    }

    async fn send_to(&self, target: &Target, options: &SendOptions<'_>) -> Answer<()> {
        let mut pause = Pause::new(self.patience.deadline);
        loop {
            match self.attempt(target, options) {
                Err(cause) if passes(cause) || self.patience.covers(cause) => {
                    sleep(pause.next(cause)?).await;
                }
                result => return result,
            }
        }
    }

    fn attempt(&self, target: &Target, options: &SendOptions<'_>) -> Answer<()> {
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
        target.send_until(&mut Passengers::new(&fds), options, Patience::NONE)
    }
}

async fn send_cached(
    pid: u32,
    port: Port,
    held: Answer<Held>,
    options: &SendOptions<'_>,
) -> Answer<()> {
    process::check(pid)?;
    let held = held?;
    let paths = reach::allowed(options.paths)?;
    let key = Key { pid, port, paths };
    if let Some(target) = cache::get(key) {
        match held.send_to(&target, options).await {
            // What was opened is gone, but the pid may be somebody else's by now.
            Err(Cause::NoSuchProcess) => cache::forget(key),
            // Another path may lead there.
            Err(Cause::InboxLost) => cache::forget(key),
            result => return result,
        }
    }
    let target = Arc::new(open_until(pid, port, paths, held.patience).await?);
    held.send_to(&target, options).await?;
    cache::put(key, target);
    Ok(())
}

async fn open_until(pid: u32, port: Port, paths: Paths, patience: Patience) -> Answer<Target> {
    process::check(pid)?;
    let paths = reach::allowed(paths)?;
    let opening = Opening::new(Key { pid, port, paths })?;
    let mut pause = Pause::new(patience.deadline);
    loop {
        match opening.attempt() {
            Err(cause) if patience.covers(cause) => sleep(pause.next(cause)?).await,
            result => return result,
        }
    }
}
