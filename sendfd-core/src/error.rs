//! What went wrong: the errno, what was attempted, why, and what a person can do.

use std::fmt;

use rustix::io::Errno;

use crate::limits::{MAX_DATA, MAX_FDS};
use crate::path::Paths;

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed. Small and without allocation, so that a queue that is full costs
/// its sender no more than a number would.
///
/// Displayed, it says what was attempted, on which process and signal, what the answer was and what
/// can be done about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error {
    attempt: Attempt,
    cause: Cause,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attempt {
    /// Sending to process `pid` at `sig`.
    Send {
        /// The target.
        pid: u32,
        /// Its real-time signal.
        sig: i32,
    },
    /// Opening process `pid` at `sig` as a target.
    OpenTarget {
        /// The target.
        pid: u32,
        /// Its real-time signal.
        sig: i32,
    },
    /// Finding out which paths lead to process `pid` at `sig`.
    Probe {
        /// The target.
        pid: u32,
        /// Its real-time signal.
        sig: i32,
    },
    /// Opening a receiver on `sig` in this process.
    OpenReceiver {
        /// The real-time signal.
        sig: i32,
    },
    /// Receiving from the receiver on `sig`.
    Receive {
        /// The real-time signal.
        sig: i32,
    },
    /// Starting signal mode on `sig` in this process.
    Listen {
        /// The real-time signal.
        sig: i32,
    },
    /// Ending signal mode on `sig` in this process.
    Unlisten {
        /// The real-time signal.
        sig: i32,
    },
    /// Asking how much waits in the queue of an opened target.
    Queued {
        /// The target.
        pid: u32,
        /// Its real-time signal.
        sig: i32,
    },
    /// Naming a port.
    NamePort,
    /// Asking what kind of file a descriptor refers to.
    Detect,
}

/// Why it failed. Each has one errno, see [`Error::raw_os_error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// EINVAL: the signal is not one of the real-time signals that libc leaves to programs.
    NotRealTime,
    /// EINVAL: a port is a number from 0 to 29, or named like `RTMIN+1`, `RTMAX-3`.
    NotAPort,
    /// EINVAL: a pid must be positive.
    PidNotPositive,
    /// EINVAL: a message carries at least one descriptor.
    NoDescriptors,
    /// EINVAL: more than [`MAX_FDS`] descriptors.
    TooManyDescriptors(usize),
    /// EINVAL: `SENDFD_PATHS` names something that is no path.
    BadEnvironment,
    /// EINVAL: [`listen`](crate::listen()) was called while an arriving signal would kill the process.
    SignalUnhandled,
    /// EINVAL: [`unlisten`](crate::unlisten) without a [`listen`](crate::listen()) before it.
    NotInSignalMode,
    /// EBADF: one of the descriptors is not open.
    BadDescriptor,
    /// EBADF: the receiver was opened by the parent of this process.
    Inherited,
    /// EBADF: the receiver was closed, by another thread of this process.
    Closed,
    /// ESRCH: no such process, or it has exited.
    NoSuchProcess,
    /// ECONNREFUSED: the process lives but does not listen on the signal.
    NotListening,
    /// ECONNREFUSED: the process does not listen on the signal, but on the next one or the one before.
    ListensNearby {
        /// The signal on which it listens.
        sig: i32,
    },
    /// ECONNREFUSED: another process sits on the target's abstract address. It was sent nothing.
    AddressTaken {
        /// The process that holds the address, 0 if this process cannot see it.
        holder: u32,
    },
    /// EPERM: the target listens, but does not accept this process's user.
    NotAccepted {
        /// The user that was refused.
        uid: u32,
    },
    /// EPERM: no path to the target is permitted.
    NotPermitted(Denial),
    /// EAGAIN: the target's queue is full and no timeout was given.
    QueueFull,
    /// EAGAIN: somebody else who may fetch the target's inbox has shut it down, and no timeout was given. The
    /// target makes a new one when it next looks for messages.
    InboxLost,
    /// EAGAIN: there is no message and no timeout was given.
    Empty,
    /// ETIMEDOUT: the timeout ran out while waiting for the target to listen.
    NeverListened,
    /// ETIMEDOUT: the timeout ran out while waiting for room in the target's queue.
    NeverRoom,
    /// ETIMEDOUT: the timeout ran out while too many of this user's descriptors were in flight.
    NeverLanded,
    /// ETIMEDOUT: the timeout ran out and no message came.
    NeverCame,
    /// ETOOMANYREFS: too many of this user's descriptors are in flight.
    TooManyInFlight,
    /// EMSGSIZE: more than [`MAX_DATA`] bytes of data.
    DataTooLong(usize),
    /// EMSGSIZE: data above 4096 bytes travels in a file, and this is more than RLIMIT_FSIZE allows.
    AboveFileSize(usize),
    /// EMSGSIZE: the next message needs more room than was lent. It stays.
    RoomTooSmall {
        /// How many descriptors it carries.
        fds: usize,
        /// How many bytes of data it carries.
        data: usize,
    },
    /// EADDRINUSE: this process already listens on the signal.
    AlreadyListening,
    /// EOPNOTSUPP: none of the paths that the caller insisted on is offered here.
    PathNotOffered(Paths),
    /// EOPNOTSUPP: the target listens with a later version of this library.
    LaterVersion,
    /// EOPNOTSUPP: the target is in another network namespace, where its address is not to be had.
    OtherNetwork,
    /// EOPNOTSUPP: data above 4096 bytes travels in a memfd, and this process may make none.
    NoMemfd,
    /// EOPNOTSUPP: there is no /proc for this process's pid namespace to find the target's inbox by.
    NoProc,
    /// EOPNOTSUPP: the target's main thread has exited, so that nothing can be fetched from it.
    MainThreadLeft,
    /// EINVAL: an io_uring is among the descriptors, which the kernel lets nobody send.
    CannotTravel,
    /// EMFILE: this process's descriptor table is full. Nothing is lost.
    TableFull,
    /// EMFILE: the next message carries more descriptors than this process can ever have. It was
    /// refused.
    NeverFits {
        /// How many it carries.
        fds: usize,
    },
    /// EMFILE: between looking at this process's descriptor table and receiving, others filled it. A
    /// message is lost, of which this is the report.
    CutShort,
    /// ESHUTDOWN: the receiver has retired, and what was sent before has been received.
    Retired,
    /// EINTR: a signal handler ran while waiting. Nothing was sent or received.
    Interrupted,
    /// The inbox was shut down while waiting, by another thread of this process.
    ShutDown,
    /// What the kernel answered. An errno beside those above is told in words, and is EBADF or EOPNOTSUPP.
    Kernel(i32),
}

/// Who or what refused to let one process reach into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// A seccomp filter answers pidfd_getfd with EPERM, whatever the target.
    Seccomp,
    /// Yama's ptrace_scope.
    Yama(u8),
    /// The kernel's own check: another user, or a target that is not dumpable.
    Ptrace,
    /// sendfd(2) is refused: this process may not signal the target.
    Signal,
    /// A security module forbids connecting to the target's abstract address.
    Name,
}

impl Error {
    pub(crate) fn new(attempt: Attempt, cause: Cause) -> Self {
        Error { attempt, cause }
    }

    /// The errno, positive, as in `errno.h`.
    #[must_use]
    pub fn raw_os_error(&self) -> i32 {
        self.cause.errno().raw_os_error()
    }

    /// What was attempted.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// What a person can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.cause.hint()
    }
}

impl Cause {
    pub(crate) fn errno(self) -> Errno {
        match self {
            Cause::NotRealTime
            | Cause::NotAPort
            | Cause::PidNotPositive
            | Cause::NoDescriptors
            | Cause::TooManyDescriptors(_)
            | Cause::BadEnvironment
            | Cause::CannotTravel
            | Cause::SignalUnhandled
            | Cause::NotInSignalMode => Errno::INVAL,
            Cause::BadDescriptor | Cause::Inherited | Cause::Closed => Errno::BADF,
            Cause::NoSuchProcess => Errno::SRCH,
            Cause::NotListening | Cause::ListensNearby { .. } | Cause::AddressTaken { .. } => {
                Errno::CONNREFUSED
            }
            Cause::NotAccepted { .. } | Cause::NotPermitted(_) => Errno::PERM,
            Cause::QueueFull | Cause::InboxLost | Cause::Empty => Errno::AGAIN,
            Cause::NeverListened | Cause::NeverRoom | Cause::NeverLanded | Cause::NeverCame => {
                Errno::TIMEDOUT
            }
            Cause::TooManyInFlight => Errno::TOOMANYREFS,
            Cause::DataTooLong(_) | Cause::AboveFileSize(_) | Cause::RoomTooSmall { .. } => {
                Errno::MSGSIZE
            }
            Cause::AlreadyListening => Errno::ADDRINUSE,
            Cause::PathNotOffered(_)
            | Cause::LaterVersion
            | Cause::OtherNetwork
            | Cause::NoMemfd
            | Cause::NoProc
            | Cause::MainThreadLeft => Errno::OPNOTSUPP,
            Cause::TableFull | Cause::NeverFits { .. } | Cause::CutShort => Errno::MFILE,
            Cause::Interrupted => Errno::INTR,
            Cause::ShutDown | Cause::Retired => Errno::SHUTDOWN,
            Cause::Kernel(errno) => of_the_table(Errno::from_raw_os_error(errno)),
        }
    }

    fn hint(self) -> Option<&'static str> {
        Some(match self {
            Cause::NotRealTime => "use a signal from SIGRTMIN to SIGRTMAX",
            Cause::NotAPort => "use a number from 0 to 29, RTMIN+n or RTMAX-n",
            Cause::PidNotPositive => "name one process; process groups cannot be sent to",
            Cause::BadEnvironment => {
                "SENDFD_PATHS takes a comma-separated list of syscall, pidfd and name"
            }
            Cause::SignalUnhandled => {
                "install a handler for the signal, or block it in all threads, before listening"
            }
            Cause::Inherited => "open a receiver of its own in the child process",
            Cause::NotListening => {
                "start the target's receiver first, or give a timeout to wait for it"
            }
            Cause::ListensNearby { .. } => {
                "SIGRTMIN is 34 in glibc and 35 in musl: name ports by their number, which counts from SIGRTMAX"
            }
            Cause::AddressTaken { .. } => {
                "the target can still be reached by the pidfd path, by its own user or by root"
            }
            Cause::NotAccepted { .. } => {
                "send as root or as the target's user, or let the target name this user when it opens its receiver"
            }
            Cause::NotPermitted(Denial::Seccomp) => {
                "allow pidfd_getfd in the seccomp profile or add CAP_SYS_PTRACE, or use the name path, which needs neither"
            }
            Cause::NotPermitted(Denial::Yama(_)) => {
                "start the target as a child of the sender, or use the name path, which Yama does not restrict"
            }
            Cause::NotPermitted(Denial::Ptrace) => {
                "use the name path, which works between processes that have changed their user"
            }
            Cause::QueueFull => "the target is slow to receive: give a timeout, or try again later",
            Cause::InboxLost => {
                "give a timeout, or try again when the target has looked for messages; the name path goes on"
            }
            Cause::TooManyInFlight | Cause::NeverLanded => {
                "raise RLIMIT_NOFILE of the sender, or wait until the targets have received"
            }
            Cause::AboveFileSize(_) => "raise RLIMIT_FSIZE, or send 4096 bytes at most",
            Cause::RoomTooSmall { .. } => "lend more room and receive again: the message stays",
            Cause::AlreadyListening => "close the receiver that this process already has there",
            Cause::PathNotOffered(_) => "allow another path",
            Cause::LaterVersion => "bring the sender's libsendfd up to that of the target",
            Cause::OtherNetwork => {
                "run both in one network namespace, or allow the pidfd path, which needs ptrace rights over the target"
            }
            Cause::NoMemfd => {
                "allow memfd_create in the seccomp profile, or send 4096 bytes of data at most"
            }
            Cause::NoProc => {
                "mount /proc, or use the name path, which does not need it where both share a pid namespace"
            }
            Cause::MainThreadLeft => {
                "use the name path, or keep the target's main thread for as long as the others live"
            }
            Cause::CannotTravel => "open an io_uring in the process that is to use it",
            Cause::TableFull => "close descriptors or raise RLIMIT_NOFILE, then receive again",
            Cause::NeverFits { .. } | Cause::CutShort => {
                "raise RLIMIT_NOFILE of the receiver, or close descriptors before there are so many"
            }
            Cause::Retired => "this was the end: close the receiver",
            _ => return None,
        })
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attempt::Send { pid, sig } => {
                write!(f, "cannot send to process {pid} at signal {sig}")
            }
            Attempt::OpenTarget { pid, sig } => {
                write!(f, "cannot open process {pid} at signal {sig} as a target")
            }
            Attempt::Probe { pid, sig } => write!(f, "cannot probe process {pid} at signal {sig}"),
            Attempt::OpenReceiver { sig } => write!(f, "cannot open a receiver at signal {sig}"),
            Attempt::Receive { sig } => write!(f, "cannot receive at signal {sig}"),
            Attempt::Listen { sig } => write!(f, "cannot listen at signal {sig}"),
            Attempt::Unlisten { sig } => write!(f, "cannot stop listening at signal {sig}"),
            Attempt::Queued { pid, sig } => {
                write!(
                    f,
                    "cannot ask for the queue of process {pid} at signal {sig}"
                )
            }
            Attempt::NamePort => f.write_str("not a port"),
            Attempt::Detect => f.write_str("cannot tell the kind of the descriptor"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NotRealTime => f.write_str("the signal is not a real-time signal"),
            Cause::NotAPort => f.write_str("there is no such port"),
            Cause::PidNotPositive => f.write_str("the pid is not positive"),
            Cause::NoDescriptors => f.write_str("no descriptors were given"),
            Cause::TooManyDescriptors(count) => {
                write!(
                    f,
                    "{count} descriptors are more than the {MAX_FDS} of one message"
                )
            }
            Cause::BadEnvironment => f.write_str("SENDFD_PATHS names an unknown path"),
            Cause::SignalUnhandled => {
                f.write_str(
                    "the signal is neither handled nor blocked: it would kill the process, or be ignored and its descriptor lost",
                )
            }
            Cause::NotInSignalMode => f.write_str("the process is not in signal mode there"),
            Cause::BadDescriptor => f.write_str("a descriptor is not open"),
            Cause::Inherited => f.write_str("the receiver belongs to the parent of this process"),
            Cause::Closed => f.write_str("the receiver is closed"),
            Cause::NoSuchProcess => f.write_str("there is no such process"),
            Cause::NotListening => f.write_str("the process lives but does not listen there"),
            Cause::ListensNearby { sig } => {
                write!(f, "the process does not listen there, but at signal {sig}")
            }
            Cause::AddressTaken { holder: 0 } => {
                f.write_str("a process that cannot be seen from here holds the target's address")
            }
            Cause::AddressTaken { holder } => {
                write!(f, "process {holder} holds the target's address")
            }
            Cause::NotAccepted { uid } => write!(f, "the target does not accept user {uid}"),
            Cause::NotPermitted(denial) => denial.fmt(f),
            Cause::QueueFull => f.write_str("the target's queue is full"),
            Cause::InboxLost => f.write_str("somebody has shut down the target's inbox"),
            Cause::Empty => f.write_str("there is no message"),
            Cause::NeverListened => f.write_str("the target did not start to listen in time"),
            Cause::NeverRoom => f.write_str("the target made no room in its queue in time"),
            Cause::NeverLanded => f.write_str(
                "too many of this user's descriptors were in flight until the time was over",
            ),
            Cause::NeverCame => f.write_str("no message came in time"),
            Cause::TooManyInFlight => {
                f.write_str("too many of this user's descriptors are in flight")
            }
            Cause::DataTooLong(length) => {
                write!(
                    f,
                    "{length} bytes of data are more than the {MAX_DATA} of one message"
                )
            }
            Cause::AboveFileSize(length) => write!(
                f,
                "{length} bytes of data travel in a file, and RLIMIT_FSIZE allows none that long"
            ),
            Cause::RoomTooSmall { fds, data } => write!(
                f,
                "the next message carries {fds} descriptors and {data} bytes, more than there is room for"
            ),
            Cause::AlreadyListening => f.write_str("this process already listens there"),
            Cause::PathNotOffered(paths) => write!(f, "not offered here: {paths}"),
            Cause::LaterVersion => {
                f.write_str("the target listens with a later version of libsendfd")
            }
            Cause::OtherNetwork => f.write_str(
                "the target is in another network namespace, where its address cannot be reached",
            ),
            Cause::NoMemfd => f.write_str(
                "data above 4096 bytes travels in a memfd, and this process is let make none",
            ),
            Cause::NoProc => f.write_str(
                "there is no /proc that shows the target, by which its inbox could be found",
            ),
            Cause::MainThreadLeft => f.write_str("the target's main thread has exited"),
            Cause::CannotTravel => {
                f.write_str("a descriptor is an io_uring, which the kernel lets nobody send")
            }
            Cause::TableFull => f.write_str("this process's descriptor table is full"),
            Cause::NeverFits { fds } => write!(
                f,
                "a message of {fds} descriptors was refused, for this process can never have so many"
            ),
            Cause::CutShort => f.write_str(
                "this process's descriptor table was filled at the very moment of receiving, and a message is lost",
            ),
            Cause::Retired => f.write_str("the receiver has retired, and nothing is left"),
            Cause::Interrupted => f.write_str("interrupted by a signal"),
            Cause::ShutDown => f.write_str("the inbox was shut down"),
            Cause::Kernel(errno) => {
                write!(f, "the kernel answered: {}", Errno::from_raw_os_error(*errno))
            }
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::Seccomp => {
                f.write_str("a seccomp filter refuses pidfd_getfd, as Docker's default profile does")
            }
            Denial::Yama(scope) => {
                write!(f, "Yama (kernel.yama.ptrace_scope = {scope}) forbids reaching into the target")
            }
            Denial::Ptrace => f.write_str(
                "the kernel forbids reaching into the target: it runs as another user, or changed its user",
            ),
            Denial::Signal => f.write_str("this process may not signal the target"),
            Denial::Name => f.write_str(
                "a security module (Landlock, AppArmor, SELinux) forbids connecting to the target",
            ),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.attempt, self.cause)?;
        match self.hint() {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Reads like the error displayed: it is what a program shows whose `main` returns an error.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// With the errno, so that its kind is told; the words are those of the system.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::from_raw_os_error(error.raw_os_error())
    }
}

/// Callers are promised the errnos of one table, and the kernel has more: what it answers beside them
/// means that a descriptor is no longer what it was, or that this kernel, or what stands before it, does
/// not offer what is needed. The words say what it was.
fn of_the_table(errno: Errno) -> Errno {
    match errno {
        Errno::INVAL
        | Errno::BADF
        | Errno::SRCH
        | Errno::CONNREFUSED
        | Errno::PERM
        | Errno::AGAIN
        | Errno::TIMEDOUT
        | Errno::TOOMANYREFS
        | Errno::MFILE
        | Errno::NFILE
        | Errno::NOMEM
        | Errno::MSGSIZE
        | Errno::ADDRINUSE
        | Errno::INTR
        | Errno::SHUTDOWN => errno,
        Errno::NOTSOCK => Errno::BADF,
        _ => Errno::OPNOTSUPP,
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::SRCH => Cause::NoSuchProcess,
            Errno::MFILE => Cause::TableFull,
            Errno::INTR => Cause::Interrupted,
            Errno::TOOMANYREFS => Cause::TooManyInFlight,
            // One word for what the kernel says in several, so that callers find it in the table.
            Errno::NOBUFS | Errno::NOSPC => Cause::Kernel(Errno::NOMEM.raw_os_error()),
            Errno::ACCESS => Cause::Kernel(Errno::PERM.raw_os_error()),
            Errno::NOPROTOOPT | Errno::NOSYS => Cause::Kernel(Errno::OPNOTSUPP.raw_os_error()),
            other => Cause::Kernel(other.raw_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_ends_a_program_reads_well() {
        let error = Error::new(Attempt::Send { pid: 7, sig: 64 }, Cause::NotListening);
        let text = "cannot send to process 7 at signal 64: the process lives but does not listen there (start the target's receiver first, or give a timeout to wait for it)";
        assert_eq!(format!("{error:?}"), text);
        assert_eq!(format!("{error}"), text);
    }

    #[test]
    fn what_the_kernel_says_beside_the_table_is_told_in_words() {
        for (answered, told) in [
            (Errno::NFILE, Errno::NFILE),
            (Errno::NOTSOCK, Errno::BADF),
            (Errno::LOOP, Errno::OPNOTSUPP),
        ] {
            let error = Error::new(Attempt::Detect, answered.into());
            assert_eq!(error.raw_os_error(), told.raw_os_error());
            assert!(
                format!("{error}").contains(&answered.to_string()),
                "{error}"
            );
        }
    }

    #[test]
    fn a_refusal_does_not_send_its_reader_to_the_probe_that_has_said_it() {
        let denials = [
            Denial::Seccomp,
            Denial::Yama(1),
            Denial::Ptrace,
            Denial::Signal,
            Denial::Name,
        ];
        let others = [
            Cause::NotListening,
            Cause::ListensNearby { sig: 64 },
            Cause::AddressTaken { holder: 7 },
            Cause::NotAccepted { uid: 7 },
            Cause::QueueFull,
            Cause::PathNotOffered(Paths::all()),
            Cause::LaterVersion,
            Cause::OtherNetwork,
            Cause::NoProc,
            Cause::MainThreadLeft,
        ];
        for cause in denials.map(Cause::NotPermitted).into_iter().chain(others) {
            let text = Error::new(Attempt::Send { pid: 7, sig: 64 }, cause).to_string();
            assert!(!text.contains("probe"), "{text}");
        }
    }

    #[test]
    fn as_an_error_of_the_standard_library_it_keeps_the_errno() {
        let error = Error::new(Attempt::Detect, Cause::QueueFull);
        let error = std::io::Error::from(error);
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(error.raw_os_error(), Some(11));
    }
}
