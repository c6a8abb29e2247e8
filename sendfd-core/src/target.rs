//! A process that was reached and can be sent to again and again.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::UCred;
use rustix::process::{getegid, geteuid, getpid, getuid};

use crate::error::{Attempt, Cause, Error, Result};
use crate::link::Link;
use crate::outgoing::{Key, Outgoing, Patience, SendOptions, TargetOptions};
use crate::path::{Path, Paths};
use crate::process::{self, Identity, Process};
use crate::reach::{self, reach};
use crate::signal::Port;
use crate::sys;
use crate::wait::{Deadline, timespec};

/// A process, at one of its signals, opened for sending. It costs this process one descriptor.
///
/// It stands for the process that had the pid when it was opened: when that has exited, sending
/// fails with `ESRCH`, also when another process has the pid by then. It keeps to one path, except
/// that what the system call cannot carry (a tag, data, several descriptors) goes another way, for
/// which one more descriptor is opened when it is first needed.
///
/// Threads may share it. A forked child may go on using its copy.
#[derive(Debug)]
pub struct Target {
    /// By what it was opened; `paths` are those allowed.
    key: Key,
    identity: Identity,
    /// Whether the kernel would name another user than the effective one, whose rights count.
    names_effective: bool,
    link: Link,
    /// For what `link` cannot carry, if that is the system call.
    side: OnceLock<Link>,
    /// Set while some thread opens one of the links again.
    reopening: AtomicBool,
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
            Self::open_until(Key { pid, port, paths }, patience)
        };
        open().map_err(|cause| {
            let sig = port.signal();
            Error::new(Attempt::OpenTarget { pid, sig }, cause)
        })
    }

    /// The path that it uses.
    #[must_use]
    pub fn path(&self) -> Path {
        self.link.path()
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
        let queued = match self.link.socket() {
            Some(socket) => sys::queued(socket.as_fd()).map_err(Cause::from),
            None => Err(Cause::PathNotOffered(Paths::SYSCALL)),
        };
        queued.map_err(|cause| self.error(|pid, sig| Attempt::Queued { pid, sig }, cause))
    }

    /// Sends duplicates of `fds` in one message: one system call, without allocation. (On the
    /// `syscall` path a second one asks before whether the process still lives, as that call takes a
    /// pid, which may come to mean another.)
    ///
    /// Blocks only as long as [`SendOptions::wait`] allows, for room in the target's queue or for a
    /// target that has closed its receiver to open one again. `fds` are only borrowed. On an error,
    /// nothing was sent. With [`SendOptions::paths`], the message fails with `EOPNOTSUPP` rather
    /// than go another way.
    ///
    /// Safe in a signal handler that saves errno, without a wait.
    ///
    /// # Errors
    /// As [`send_with`](crate::send_with).
    #[inline]
    pub fn send(&self, fds: &[BorrowedFd<'_>], options: &SendOptions<'_>) -> Result<()> {
        self.send_until(fds, options, Patience::new(options.wait, options.wait_for))
            .map_err(|cause| self.error(|pid, sig| Attempt::Send { pid, sig }, cause))
    }

    fn error(&self, attempt: impl FnOnce(u32, i32) -> Attempt, cause: Cause) -> Error {
        let Key { pid, port, .. } = self.key;
        Error::new(attempt(pid, port.signal()), cause)
    }

    pub(crate) fn open_until(key: Key, patience: Patience) -> Answer<Self> {
        let process = Process::open(key.pid)?;
        let mut pause = Pause::new(patience.deadline);
        let link = loop {
            match reach(&process, key.port.signal(), key.paths) {
                Err(cause) if patience.covers(cause) => pause.sleep(&process, cause)?,
                result => break result?,
            }
        };
        Ok(Target {
            key,
            identity: process.identity(),
            names_effective: geteuid() != getuid(),
            link,
            side: OnceLock::new(),
            reopening: AtomicBool::new(false),
        })
    }

    #[inline]
    pub(crate) fn send_until(
        &self,
        fds: &[BorrowedFd<'_>],
        options: &SendOptions<'_>,
        patience: Patience,
    ) -> Answer<()> {
        let credentials = self.names_effective.then(effective_credentials);
        let outgoing = Outgoing::new(
            self.key.port,
            fds.len(),
            options.tag,
            options.data,
            credentials,
        )?;
        let link = self.link_for(&outgoing, patience)?;
        if !options.paths.is_empty() && !options.paths.contains(link.path()) {
            return Err(Cause::PathNotOffered(options.paths));
        }
        match link.send(fds, &outgoing) {
            Err(cause) => self.send_again(link, fds, &outgoing, cause, patience),
            Ok(()) => Ok(()),
        }
    }

    /// The link that can carry the message.
    #[inline]
    fn link_for(&self, outgoing: &Outgoing<'_>, patience: Patience) -> Answer<&Link> {
        if outgoing.is_bare() || !matches!(self.link, Link::Syscall(_)) {
            return Ok(&self.link);
        }
        if let Some(side) = self.side.get() {
            return Ok(side);
        }
        let others = self.key.paths - Paths::SYSCALL;
        if others.is_empty() {
            return Err(Cause::PathNotOffered(Paths::SYSCALL));
        }
        let side = Self::open_until(
            Key {
                paths: others,
                ..self.key
            },
            patience,
        )?;
        if side.identity != self.identity {
            return Err(Cause::NoSuchProcess);
        }
        Ok(self.side.get_or_init(|| side.link))
    }

    /// Sending failed: waits or opens the link again, whatever `cause` asks for, and tries again.
    #[cold]
    fn send_again(
        &self,
        link: &Link,
        fds: &[BorrowedFd<'_>],
        outgoing: &Outgoing<'_>,
        mut cause: Cause,
        patience: Patience,
    ) -> Answer<()> {
        // A receiver at its limit may close a connection as soon as it is opened. The caller is
        // told of a queue that has no room rather than kept waiting.
        for _ in 0..MAX_REOPENED {
            while lacks_room(cause) && patience.deadline.waits() {
                wait_for_room(link, patience.deadline)?;
                match link.send(fds, outgoing) {
                    Ok(()) => return Ok(()),
                    Err(next) => cause = next,
                }
            }
            if cause != Cause::ShutDown {
                return Err(cause);
            }
            self.reopen(link, patience)?;
            match link.send(fds, outgoing) {
                Ok(()) => return Ok(()),
                Err(next) => cause = next,
            }
        }
        Err(Cause::QueueFull)
    }

    /// The inbox behind `link` is gone: the receiver was closed, let the connection go, or died.
    ///
    /// The new socket takes the number of the old one, so that threads which are sending over it,
    /// or are interrupted by a signal handler that does, need no lock.
    fn reopen(&self, link: &Link, patience: Patience) -> Answer<()> {
        let Some(socket) = link.socket() else {
            return Err(Cause::NoSuchProcess);
        };
        let process = Process::open(self.key.pid)?;
        if process.identity() != self.identity {
            return Err(Cause::NoSuchProcess);
        }
        let mut pause = Pause::new(patience.deadline);
        if self.reopening.swap(true, Ordering::Acquire) {
            // Another thread is at it. Its messages and ours must not take two connections.
            return pause.sleep(&process, Cause::QueueFull);
        }
        let result = loop {
            match reach(&process, self.key.port.signal(), link.path().into()) {
                Ok(new) => {
                    let new = new.socket().ok_or(Cause::NoSuchProcess);
                    break new.and_then(|new| Ok(sys::replace(socket.as_fd(), new)?));
                }
                Err(cause) if patience.covers(cause) => match pause.sleep(&process, cause) {
                    Ok(()) => {}
                    Err(cause) => break Err(cause),
                },
                Err(cause) => break Err(cause),
            }
        };
        self.reopening.store(false, Ordering::Release);
        result
    }
}

const MAX_REOPENED: usize = 8;

type Answer<T> = std::result::Result<T, Cause>;

fn effective_credentials() -> UCred {
    UCred {
        pid: getpid(),
        uid: geteuid(),
        gid: getegid(),
    }
}

/// Whether the target will have room again when it receives.
fn lacks_room(cause: Cause) -> bool {
    matches!(cause, Cause::QueueFull | Cause::TargetTableFull)
}

/// Waits, longer each time, until something is worth another try.
struct Pause {
    deadline: Deadline,
    time: Duration,
}

impl Pause {
    fn new(deadline: Deadline) -> Self {
        Pause {
            deadline,
            time: Duration::from_micros(500),
        }
    }

    /// Fails with `cause` where no waiting was allowed, and at once when the process exits.
    fn sleep(&mut self, process: &Process, cause: Cause) -> Answer<()> {
        let left = match self.deadline.left() {
            Some(left) => left,
            None if self.deadline.waits() => {
                return Err(match cause {
                    Cause::QueueFull => Cause::NeverRoom,
                    _ => Cause::NeverListened,
                });
            }
            None => return Err(cause),
        };
        if process.exits_within(self.time.min(left))? {
            return Err(Cause::NoSuchProcess);
        }
        self.time = (self.time * 2).min(Duration::from_millis(20));
        Ok(())
    }
}

fn wait_for_room(link: &Link, deadline: Deadline) -> Answer<()> {
    let left = deadline.left().ok_or(Cause::NeverRoom)?;
    match link.socket() {
        Some(socket) => {
            let mut fds = [PollFd::new(socket, PollFlags::OUT)];
            poll(&mut fds, timespec(left).as_ref())?;
        }
        // Room in a queue of signals is announced to nobody.
        None => std::thread::sleep(left.min(Duration::from_millis(1))),
    }
    Ok(())
}
