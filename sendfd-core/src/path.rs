//! The three ways to a target. One contract, one closed set, sibling modules with the same
//! function names: `reach` a target, `send` over what was reached.

pub(crate) mod name;
pub(crate) mod pidfd;
pub(crate) mod syscall;

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use bitflags::bitflags;
use rustix::io::Errno;

use crate::error::Cause;
use crate::process::Process;
use crate::wire::Outgoing;

/// The way a message took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Path {
    /// sendfd(2), on a kernel that has it.
    Syscall = 1,
    /// The sender fetched the sending end of the target's inbox with pidfd_getfd(2).
    Pidfd = 2,
    /// The sender connected to the inbox's abstract address.
    Name = 4,
}

impl Path {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Path; 3] = [Path::Syscall, Path::Pidfd, Path::Name];

    /// `"syscall"`, `"pidfd"` or `"name"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Path::Syscall => "syscall",
            Path::Pidfd => "pidfd",
            Path::Name => "name",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

bitflags! {
    /// The ways a caller allows. Empty means all.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Paths: u32 {
        /// [`Path::Syscall`]
        const SYSCALL = Path::Syscall as u32;
        /// [`Path::Pidfd`]
        const PIDFD = Path::Pidfd as u32;
        /// [`Path::Name`]
        const NAME = Path::Name as u32;
    }
}

impl From<Path> for Paths {
    fn from(path: Path) -> Self {
        match path {
            Path::Syscall => Paths::SYSCALL,
            Path::Pidfd => Paths::PIDFD,
            Path::Name => Paths::NAME,
        }
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for path in Path::ALL {
            if self.contains(path.into()) {
                write!(f, "{separator}{path}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

impl Paths {
    /// What the caller allows and the environment's `SENDFD_PATHS` does not forbid.
    pub(crate) fn allowed(self) -> Result<Paths, Cause> {
        let wish = if self.is_empty() { Paths::all() } else { self };
        let allowed = wish & environment()?;
        if allowed.is_empty() {
            Err(Cause::PathNotOffered(wish))
        } else {
            Ok(allowed)
        }
    }

    fn parse(list: &str) -> Option<Paths> {
        list.split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(|word| Path::ALL.into_iter().find(|path| path.as_str() == word))
            .try_fold(Paths::empty(), |paths, path| Some(paths | path?.into()))
    }
}

/// Read once: a process's environment is not safe to read while other threads may change it.
fn environment() -> Result<Paths, Cause> {
    static PATHS: OnceLock<Option<Paths>> = OnceLock::new();
    PATHS
        .get_or_init(|| match std::env::var("SENDFD_PATHS") {
            Ok(list) if !list.trim().is_empty() => Paths::parse(&list),
            Ok(_) | Err(std::env::VarError::NotPresent) => Some(Paths::all()),
            Err(std::env::VarError::NotUnicode(_)) => None,
        })
        .ok_or(Cause::BadEnvironment)
}

/// What was reached, by one of the paths.
#[derive(Debug)]
pub(crate) enum Link {
    Syscall(syscall::Link),
    Pidfd(pidfd::Link),
    Name(name::Link),
}

impl Link {
    pub(crate) fn reach(path: Path, process: &Process, sig: i32) -> Result<Self, Cause> {
        Ok(match path {
            Path::Syscall => Link::Syscall(syscall::reach(process, sig)?),
            Path::Pidfd => Link::Pidfd(pidfd::reach(process, sig)?),
            Path::Name => Link::Name(name::reach(process, sig)?),
        })
    }

    pub(crate) fn path(&self) -> Path {
        match self {
            Link::Syscall(_) => Path::Syscall,
            Link::Pidfd(_) => Path::Pidfd,
            Link::Name(_) => Path::Name,
        }
    }

    /// The socket that is sent over, unless it is the system call.
    pub(crate) fn socket(&self) -> Option<&OwnedFd> {
        match self {
            Link::Syscall(_) => None,
            Link::Pidfd(link) => Some(&link.0),
            Link::Name(link) => Some(&link.0),
        }
    }

    /// One system call, which never blocks.
    #[inline]
    pub(crate) fn send(
        &self,
        fds: &[BorrowedFd<'_>],
        outgoing: &Outgoing<'_>,
    ) -> Result<(), Cause> {
        match self {
            Link::Syscall(link) => syscall::send(link, fds, outgoing),
            Link::Pidfd(link) => pidfd::send(link, fds, outgoing),
            Link::Name(link) => name::send(link, fds, outgoing),
        }
    }
}

/// What the answer of sendmsg(2) means, for both of the paths that end in a socket.
#[inline]
fn sent(answer: Result<(), Errno>) -> Result<(), Cause> {
    answer.map_err(|errno| match errno {
        Errno::AGAIN => Cause::QueueFull,
        Errno::BADF => Cause::BadDescriptor,
        Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED | Errno::NOTCONN => Cause::ShutDown,
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_list() {
        assert_eq!(
            Paths::parse("pidfd, name"),
            Some(Paths::PIDFD | Paths::NAME)
        );
        assert_eq!(Paths::parse("syscall"), Some(Paths::SYSCALL));
        assert_eq!(Paths::parse("pidfd,nmae"), None);
    }

    #[test]
    fn the_numbers_are_those_of_the_c_header() {
        assert_eq!(Paths::all().bits(), 1 | 2 | 4);
        assert_eq!(Paths::all().to_string(), "syscall, pidfd, name");
    }
}
