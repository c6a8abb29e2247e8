//! How the command ends: one line of text, and an exit code that a script can tell apart.

use std::fmt;
use std::io;

use sendfd_core::Error;

/// The exit codes, as the pages list them. They are those of sysexits.h, so that COMMAND's own, which
/// `recv` passes on, are rarely mistaken for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// The command line or the configuration is wrong.
    Usage = 64,
    /// No such process, or it has exited.
    NoProcess = 68,
    /// The process lives but does not listen there.
    NobodyListens = 69,
    /// Whatever else the kernel refuses.
    System = 71,
    /// The timeout ran out, or the queue is full and no timeout was given.
    TimedOut = 75,
    /// The target does not accept this user, or no path to it is permitted.
    Refused = 77,
    /// COMMAND was found but cannot be executed.
    CannotExecute = 126,
    /// COMMAND was not found.
    NotFound = 127,
    /// Nobody reads the output any more: what a shell says of a program that SIGPIPE ended.
    ClosedPipe = 141,
}

/// Why the command ends early.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    text: String,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Failure {
            code,
            text: text.into(),
        }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Failure::new(Code::Usage, text)
    }

    pub(crate) fn system(text: impl Into<String>) -> Self {
        Failure::new(Code::System, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The code for what the library answered.
pub(crate) fn code(error: &Error) -> Code {
    match error.raw_os_error() {
        libc::ESRCH => Code::NoProcess,
        libc::ECONNREFUSED => Code::NobodyListens,
        libc::EPERM => Code::Refused,
        libc::ETIMEDOUT | libc::EAGAIN => Code::TimedOut,
        libc::EINVAL | libc::EMSGSIZE => Code::Usage,
        _ => Code::System,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(code(&error), error.to_string())
    }
}

/// For output: whatever else can fail says what it was about.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Code::ClosedPipe, ""),
            _ => Failure::system(format!("cannot write the output: {error}")),
        }
    }
}
