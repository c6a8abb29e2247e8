//! A process that was reached and can be sent to again and again.

use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrayvec::ArrayString;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::error::{Attempt, Cause, Error, Result};
use crate::link::{Link, Unsent};
use crate::outgoing::{Key, Outgoing, Patience, SendOptions, TargetOptions};
use crate::passengers::Passengers;
use crate::path::{Path, Paths};
use crate::process::{self, Process};
use crate::reach;
use crate::route::{Reopened, Route};
use crate::sealed;
use crate::sender::Sender;
use crate::signal::Port;
use crate::sys;
use crate::wait::{Deadline, timespec};

/// A process, at one of its ports, opened for sending. It costs this process one descriptor, which all
/// targets share that lead there by the same path.
///
/// It stands for the process that had the pid when it was opened: when that has exited, sending
/// fails with `ESRCH`, also when another process has the pid by then. It keeps to one path, except
/// that what the system call cannot carry (a tag, data, several descriptors) goes another way, which
/// is opened when it is first needed.
///
/// It sends as the user that this process was when it was opened. When this process is another user
/// by then, the target is asked again, and refuses with `EPERM` or is sent to as the new user.
///
/// A program that closes descriptors that it did not open (closefrom, close_range) must drop its targets
/// and receivers first. [`send`](crate::send()) and [`send_with`](crate::send_with) check their own cache;
/// [`Target::send`] and a receiver do not check, and what the number names by then is written to or
/// closed.
///
/// Threads may share it. A forked child may go on using its copy.
#[derive(Debug)]
pub struct Target {
    /// By what it was opened; `paths` are those allowed.
    key: Key,
    sender: Sender,
    route: Arc<Route>,
    /// For what `route` cannot carry, if that is the system call.
    side: OnceLock<Arc<Route>>,
}

impl Target {
    /// Opens process `pid` at `port`, by the first path that leads to it. Does not block.
    ///
    /// # Errors
    /// As [`Target::open_with`].
    pub fn open(pid: u32, port: Port) -> Result<Self> {
        Self::open_with(pid, port, &TargetOptions::new())
    }

    /// Opens process `pid` at `port`, by the first of the paths allowed that leads to it. Blocks only
    /// as long as [`TargetOptions::wait`] allows, for a target that does not listen yet.
    ///
    /// # Errors
    /// As [`send_with`](crate::send_with), as far as they are about the target and the path.
    pub fn open_with(pid: u32, port: Port, options: &TargetOptions) -> Result<Self> {
        let patience = Patience::new(options.wait, options.wait_for);
        let open = || {
            process::check(pid)?;
            let paths = reach::allowed(options.paths)?;
            Self::open_until(
                Key { pid, port, paths },
                &mut Passengers::new(&[]),
                patience,
            )
        };
        open().map_err(|cause| {
            let sig = port.signal();
            let cause = reach::with_neighbours(cause, pid, sig);
            Error::new(Attempt::OpenTarget { pid, sig }, cause)
        })
    }

    /// The path that it uses.
    #[must_use]
    pub fn path(&self) -> Path {
        self.route.link.path()
    }

    /// The pid that it was opened by.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.key.pid
    }

    /// The port that it was opened by.
    #[must_use]
    pub fn port(&self) -> Port {
        self.key.port
    }

    /// How many bytes wait in the target's queue, by the kernel's count, in which the smallest message
    /// takes about 768: of all its senders where it is reached by `pidfd`, of this process by `name`.
    /// For choosing the one of several targets that has least to do. Does not block.
    ///
    /// # Errors
    /// - `EOPNOTSUPP`: by the `syscall` path there is no such queue.
    ///
    /// # References
    /// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), "SIOCOUTQ" in [ioctl(2)]
    ///
    /// [ioctl(2)]: https://man7.org/linux/man-pages/man2/ioctl.2.html
    pub fn queued(&self) -> Result<usize> {
        let queued = match self.route.link.socket() {
            Some(socket) => sys::queued(socket.as_fd()).map_err(Cause::from),
            None => Err(Cause::PathNotOffered(Paths::SYSCALL)),
        };
        queued.map_err(|cause| self.error(|pid, sig| Attempt::Queued { pid, sig }, cause))
    }

    /// Sends duplicates of `fds` in one message: one system call, without allocation. (With more than
    /// 4096 bytes of data it makes a memfd first, without allocation either.)
    ///
    /// Blocks only as long as [`SendOptions::wait`] allows, for room in the target's queue or for a
    /// target that has closed its receiver to open one again. `fds` are only borrowed. On an error,
    /// nothing was sent. With [`SendOptions::paths`], the message fails with `EOPNOTSUPP` rather
    /// than go another way.
    ///
    /// Safe in a signal handler that saves errno, without a wait. It allocates nothing there and needs 8 KiB
    /// of stack, or 16 where the target has closed its receiver and the way has to be opened again,
    /// beside what the kernel puts on a signal stack (`AT_MINSIGSTKSZ`). A child forked in a handler that
    /// interrupted a call of this library must not return into that call: it may call async-signal-safe
    /// functions only, and end with `_exit` or `execve`.
    ///
    /// When the target has died, but a child that it made by a raw `clone` shares its queue, its death is
    /// found out within a tenth of a second. Until then a send can succeed.
    ///
    /// # Errors
    /// As [`send_with`](crate::send_with). A send that has to wait duplicates each descriptor first:
    /// `EMFILE` when the descriptor table is full.
    #[inline]
    pub fn send(&self, fds: &[BorrowedFd<'_>], options: &SendOptions<'_>) -> Result<()> {
        let patience = Patience::new(options.wait, options.wait_for);
        self.send_until(&mut Passengers::new(fds), options, patience)
            .map_err(|cause| self.error(|pid, sig| Attempt::Send { pid, sig }, cause))
    }

    fn error(&self, attempt: impl FnOnce(u32, i32) -> Attempt, cause: Cause) -> Error {
        let Key { pid, port, .. } = self.key;
        Error::new(attempt(pid, port.signal()), cause)
    }

    pub(crate) fn open_until(
        key: Key,
        passengers: &mut Passengers<'_>,
        patience: Patience,
    ) -> Answer<Self> {
        let opening = Opening::new(key)?;
        let mut pause = Pause::new(patience.deadline);
        loop {
            match opening.attempt() {
                Err(cause) if patience.covers(cause) => {
                    pause.sleep(&opening.process, cause, passengers)?;
                }
                result => return result,
            }
        }
    }

    /// Whether its descriptor is still its own.
    pub(crate) fn is_intact(&self) -> bool {
        self.route.is_intact()
    }

    #[inline]
    pub(crate) fn send_until(
        &self,
        passengers: &mut Passengers<'_>,
        options: &SendOptions<'_>,
        patience: Patience,
    ) -> Answer<()> {
        let outgoing = Outgoing::new(self.key.port, passengers.len(), options.tag, options.data)?;
        let route = self.route_for(&outgoing, passengers, patience)?;
        if !options.paths.is_empty() && !options.paths.contains(route.link.path()) {
            return Err(Cause::PathNotOffered(options.paths));
        }
        if !route.lives() {
            return Err(Cause::NoSuchProcess);
        }
        if outgoing.is_sealed() {
            return self.send_sealed(route, passengers, &outgoing, options.data, patience);
        }
        let named = outgoing.named(self.sender.named());
        match passengers.lend(|fds| route.link.send(fds, &named)) {
            Err(why) => self.send_again(route, passengers, &outgoing, why, patience),
            Ok(()) => Ok(()),
        }
    }

    #[cold]
    fn send_sealed(
        &self,
        route: &Route,
        passengers: &mut Passengers<'_>,
        outgoing: &Outgoing<'_>,
        data: &[u8],
        patience: Patience,
    ) -> Answer<()> {
        passengers.hide(|| sealed::seal(data))?;
        let named = outgoing.named(self.sender.named());
        match passengers.lend(|fds| route.link.send(fds, &named)) {
            Err(why) => self.send_again(route, passengers, outgoing, why, patience),
            Ok(()) => Ok(()),
        }
    }

    /// The route that can carry the message.
    #[inline]
    fn route_for(
        &self,
        outgoing: &Outgoing<'_>,
        passengers: &mut Passengers<'_>,
        patience: Patience,
    ) -> Answer<&Route> {
        if outgoing.is_bare() || !matches!(self.route.link, Link::Syscall(_)) {
            return Ok(&self.route);
        }
        if let Some(side) = self.side.get() {
            return Ok(side);
        }
        let paths = self.key.paths - Paths::SYSCALL;
        if paths.is_empty() {
            return Err(Cause::PathNotOffered(Paths::SYSCALL));
        }
        let process = self.route.process()?;
        let mut pause = Pause::new(patience.deadline);
        let side = loop {
            match Route::open(&process, self.key.port, paths) {
                Err(cause) if patience.covers(cause) => pause.sleep(&process, cause, passengers)?,
                result => break result?,
            }
        };
        Ok(self.side.get_or_init(|| side))
    }

    /// Sending failed: waits or opens the link again, whatever the reason asks for, and tries again.
    #[cold]
    fn send_again(
        &self,
        route: &Route,
        passengers: &mut Passengers<'_>,
        outgoing: &Outgoing<'_>,
        mut why: Unsent,
        patience: Patience,
    ) -> Answer<()> {
        let mut pause = Pause::new(patience.deadline);
        let mut reopened = 0;
        let mut introduced = 0;
        loop {
            match why {
                Unsent::Gone => match route.reopen() {
                    // A receiver at its limit may let a connection go as soon as it is opened.
                    Ok(Reopened::Done) if reopened < MAX_REOPENED => reopened += 1,
                    Ok(_) => pause.sleep(&route.process()?, Cause::QueueFull, passengers)?,
                    Err(cause) if patience.covers(cause) => {
                        pause.sleep(&route.process()?, cause, passengers)?;
                    }
                    Err(cause) => return Err(cause),
                },
                Unsent::Refused(errno) if introduced < MAX_INTRODUCED => {
                    introduced += 1;
                    self.introduce(route, passengers, errno)?;
                }
                Unsent::Refused(errno) => return Err(errno.into()),
                Unsent::For(cause) if passes(cause) && patience.deadline.waits() => {
                    pause.for_room(route, cause, passengers)?;
                }
                Unsent::For(cause) => return Err(cause),
            }
            let named = outgoing.named(self.sender.named());
            match passengers.lend(|fds| route.link.send(fds, &named)) {
                Ok(()) => return Ok(()),
                Err(next) => why = next,
            }
        }
    }

    /// The kernel refused the message (EPERM, EINVAL). If that was because this process is not who it was
    /// when the target was opened, the target is asked about the one it is now.
    fn introduce(&self, route: &Route, passengers: &Passengers<'_>, errno: Errno) -> Answer<()> {
        if self.sender.ask_again() {
            return reach::check(
                &route.link,
                &route.process()?.look()?,
                self.key.port.signal(),
            );
        }
        Err(match errno {
            Errno::INVAL if passengers.lend(holds_io_uring) => Cause::CannotTravel,
            other => other.into(),
        })
    }
}

/// A process that is to be opened as a target. It is held, so that its pid does not come to mean another
/// one while somebody waits for it to listen.
#[derive(Debug)]
pub(crate) struct Opening {
    key: Key,
    process: Process,
}

impl Opening {
    pub(crate) fn new(key: Key) -> Answer<Self> {
        Ok(Opening {
            key,
            process: Process::open(key.pid)?,
        })
    }

    /// Opens it, if it listens by now. Does not wait.
    pub(crate) fn attempt(&self) -> Answer<Target> {
        // Noted before the target is asked: if this process becomes another user in between, sending fails
        // and the target is asked again.
        let sender = Sender::now();
        Ok(Target {
            key: self.key,
            sender,
            route: Route::open(&self.process, self.key.port, self.key.paths)?,
            side: OnceLock::new(),
        })
    }
}

const MAX_REOPENED: u32 = 8;

/// This process may change its user while it sends.
const MAX_INTRODUCED: u32 = 4;

type Answer<T> = std::result::Result<T, Cause>;

/// Whether the target will have room again when it receives.
pub(crate) fn passes(cause: Cause) -> bool {
    matches!(cause, Cause::QueueFull | Cause::TooManyInFlight)
}

/// Whether one of them is an io_uring, which the kernel lets nobody send.
fn holds_io_uring(fds: &[BorrowedFd<'_>]) -> bool {
    fds.iter().any(|fd| {
        let mut path = ArrayString::<32>::new();
        let _ = write!(path, "/proc/self/fd/{}", fd.as_raw_fd());
        let mut link = [MaybeUninit::uninit(); 64];
        let read = rustix::fs::readlinkat_raw(rustix::fs::CWD, path.as_str(), &mut link);
        read.is_ok_and(|(link, _)| link == b"anon_inode:[io_uring]")
    })
}

/// Waits, longer each time, until something is worth another try.
#[derive(Debug)]
pub(crate) struct Pause {
    deadline: Deadline,
    time: Duration,
}

impl Pause {
    const FIRST: Duration = Duration::from_micros(500);
    const MOST_FOR_ROOM: Duration = Duration::from_millis(4);
    const MOST_FOR_BOOT: Duration = Duration::from_millis(20);

    pub(crate) fn new(deadline: Deadline) -> Self {
        Pause {
            deadline,
            time: Self::FIRST,
        }
    }

    /// For how long to wait now. Fails with `cause` where no waiting was allowed.
    pub(crate) fn next(&mut self, cause: Cause) -> Answer<Duration> {
        let most = if passes(cause) {
            Self::MOST_FOR_ROOM
        } else {
            Self::MOST_FOR_BOOT
        };
        let left = match self.deadline.left() {
            Some(left) => left,
            None if self.deadline.waits() => {
                return Err(match cause {
                    Cause::QueueFull => Cause::NeverRoom,
                    Cause::TooManyInFlight => Cause::NeverLanded,
                    _ => Cause::NeverListened,
                });
            }
            None => return Err(cause),
        };
        let time = self.time.min(left);
        self.time = (self.time * 2).min(most);
        Ok(time)
    }

    /// Fails with `cause` where no waiting was allowed, and at once when the process exits.
    fn sleep(
        &mut self,
        process: &Process,
        cause: Cause,
        passengers: &mut Passengers<'_>,
    ) -> Answer<()> {
        let time = self.next(cause)?;
        passengers.hold()?;
        if process.exits_within(time)? {
            return Err(Cause::NoSuchProcess);
        }
        Ok(())
    }

    /// Waits for room. poll(2) reports it once three quarters of a queue are free, and senders that try
    /// without polling may never let it come to that. So this comes back in between as well.
    fn for_room(
        &mut self,
        route: &Route,
        cause: Cause,
        passengers: &mut Passengers<'_>,
    ) -> Answer<()> {
        let time = self.next(cause)?;
        passengers.hold()?;
        match route.link.socket().filter(|_| cause == Cause::QueueFull) {
            Some(socket) => {
                let mut fds = [PollFd::new(socket, PollFlags::OUT)];
                poll(&mut fds, timespec(time).as_ref())?;
            }
            // Nothing tells of room in a queue of signals, or that descriptors are in flight no more.
            None => {
                poll(&mut [], timespec(time).as_ref())?;
            }
        }
        Ok(())
    }
}
