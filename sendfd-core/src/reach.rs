//! Which path leads to a target, and which refusal to report when none does.

use std::sync::OnceLock;

use rustix::process::geteuid;

use crate::admission::{self, Standing};
use crate::error::{Cause, Denial};
use crate::link::{Link, Socket, name};
use crate::path::{Path, Paths};
use crate::process::{Process, Seen};
use crate::signal::Port;

type Answer<T> = Result<T, Cause>;

/// What the caller allows and the environment's `SENDFD_PATHS` does not forbid.
pub(crate) fn allowed(wish: Paths) -> Answer<Paths> {
    let wish = if wish.is_empty() { Paths::all() } else { wish };
    let allowed = wish & environment()?;
    if allowed.is_empty() {
        Err(Cause::PathNotOffered(wish))
    } else {
        Ok(allowed)
    }
}

/// Read once: a process's environment is not safe to read while other threads may change it.
fn environment() -> Answer<Paths> {
    static PATHS: OnceLock<Option<Paths>> = OnceLock::new();
    PATHS
        .get_or_init(|| match std::env::var("SENDFD_PATHS") {
            Ok(list) if !list.trim().is_empty() => Paths::parse(&list),
            Ok(_) | Err(std::env::VarError::NotPresent) => Some(Paths::all()),
            Err(std::env::VarError::NotUnicode(_)) => None,
        })
        .ok_or(Cause::BadEnvironment)
}

/// Tries the paths in order and answers the most telling of what stands in the way.
pub(crate) fn first<T>(
    process: &Process,
    paths: Paths,
    mut reach: impl FnMut(Path, &Seen<'_>) -> Answer<T>,
) -> Answer<T> {
    let seen = process.look()?;
    let mut refusal = Cause::PathNotOffered(Paths::empty());
    for path in order(&seen) {
        if !paths.contains(path) {
            continue;
        }
        match reach(path, &seen) {
            Ok(reached) => return Ok(reached),
            Err(cause) => refusal = more_telling(refusal, cause),
        }
        if weight(refusal) == FINAL {
            break;
        }
    }
    Err(explain(&seen, refusal))
}

/// What a caller is told who is not going to wait: where the process does not listen at a signal, whether it
/// does so at a neighbouring one. Two programs with different libraries of C count from different ends.
pub(crate) fn with_neighbours(cause: Cause, pid: u32, sig: i32) -> Cause {
    if cause != Cause::NotListening {
        return cause;
    }
    let nearby = || -> Answer<Option<i32>> {
        let process = Process::open(pid)?;
        let seen = process.look()?;
        let neighbours = [sig + 1, sig - 1].into_iter();
        let mut real = neighbours.filter(|sig| Port::from_signal(*sig).is_ok());
        Ok(real.find(|sig| name::reach(&seen, *sig).is_ok()))
    };
    match nearby() {
        Ok(Some(sig)) => Cause::ListensNearby { sig },
        _ => cause,
    }
}

/// The order in which the paths to a process are tried. With another user's process `name` comes before
/// `pidfd`: what it has at a number may be a file that keeps whoever looks at it waiting.
pub(crate) fn order(process: &Seen<'_>) -> [Path; 3] {
    if process.is_of_another_user() {
        [Path::Syscall, Path::Name, Path::Pidfd]
    } else {
        Path::ALL
    }
}

/// What the caller is told: of a process that is exiting, that there is none, whatever the paths found.
fn explain(process: &Seen<'_>, refusal: Cause) -> Cause {
    if weight(refusal) != FINAL && process.is_leaving() {
        return Cause::NoSuchProcess;
    }
    refusal
}

/// Which of two refusals says more about the target: the first, unless the second says more.
fn more_telling(first: Cause, second: Cause) -> Cause {
    match (first, second) {
        (Cause::PathNotOffered(some), Cause::PathNotOffered(more)) => {
            Cause::PathNotOffered(some | more)
        }
        _ if weight(second) > weight(first) => second,
        _ => first,
    }
}

/// The weight of a refusal after which no other path is tried.
const FINAL: u8 = 9;

/// How much a refusal says about the target, compared with what the other paths found.
fn weight(cause: Cause) -> u8 {
    match cause {
        Cause::PathNotOffered(_) => 0,
        Cause::NoProc => 1,
        Cause::NotPermitted(Denial::Ptrace | Denial::Signal | Denial::Name) => 1,
        Cause::NotListening | Cause::ListensNearby { .. } => 3,
        Cause::QueueFull
        | Cause::InboxLost
        | Cause::AddressTaken { .. }
        | Cause::LaterVersion
        | Cause::MainThreadLeft => 4,
        // It does listen: its marker was seen.
        Cause::NotPermitted(Denial::Seccomp | Denial::Yama(_)) => 5,
        Cause::NotAccepted { .. } => 6,
        Cause::NoSuchProcess
        | Cause::TableFull
        | Cause::Interrupted
        | Cause::Kernel(libc::ENFILE | libc::ENOMEM) => FINAL,
        _ => 2,
    }
}

/// Reaches the target by one path and makes sure that it will accept what this process sends.
pub(crate) fn reach_by(path: Path, process: &Seen<'_>, sig: i32) -> Answer<Link> {
    let link = Link::reach(path, process, sig)?;
    Ok(match (own_name(&link, process, sig)?, link) {
        (Some(own), Link::Name(_)) => Link::Name(own),
        (_, link) => link,
    })
}

/// Whether the target will accept what this process sends over a link that there is already.
pub(crate) fn check(link: &Link, process: &Seen<'_>, sig: i32) -> Answer<()> {
    // The receiver judges each message by its sender, over whatever connection it comes.
    own_name(link, process, sig).map(|_| ())
}

/// `None` if the target accepts this process's user as it is. Otherwise the target must have named that user: then
/// there is an address for it, by the number that the target knows it by.
fn own_name(link: &Link, process: &Seen<'_>, sig: i32) -> Answer<Option<Socket>> {
    if matches!(link, Link::Syscall(_)) {
        return Ok(None);
    }
    let uid = geteuid().as_raw();
    match admission::standing(process)? {
        Standing::Admitted => Ok(None),
        Standing::Nobody => Err(Cause::NotAccepted { uid }),
        Standing::Another(there) => match name::reach_as(process, sig, Some(there)) {
            Err(Cause::NotListening) => Err(Cause::NotAccepted { uid }),
            result => result.map(Some),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECCOMP: Cause = Cause::NotPermitted(Denial::Seccomp);
    const PTRACE: Cause = Cause::NotPermitted(Denial::Ptrace);
    const NO_SYSCALL: Cause = Cause::PathNotOffered(Paths::SYSCALL);

    fn told(refusals: &[Cause]) -> Cause {
        let none = Cause::PathNotOffered(Paths::empty());
        refusals.iter().fold(none, |a, b| more_telling(a, *b))
    }

    #[test]
    fn what_is_not_offered_adds_up() {
        let no_pidfd = Cause::PathNotOffered(Paths::PIDFD);
        let neither = Cause::PathNotOffered(Paths::SYSCALL | Paths::PIDFD);
        assert_eq!(told(&[NO_SYSCALL, no_pidfd]), neither);
    }

    #[test]
    fn what_says_most_of_the_target_is_told() {
        // Another user's process that does not listen: that is the point, not the ptrace check.
        assert_eq!(
            told(&[NO_SYSCALL, PTRACE, Cause::NotListening]),
            Cause::NotListening
        );
        // A marker was seen, so it does listen, and there is no way to it.
        assert_eq!(told(&[NO_SYSCALL, SECCOMP, Cause::NotListening]), SECCOMP);
        let user = Cause::NotAccepted { uid: 7 };
        assert_eq!(told(&[user, Cause::NotListening]), user);
        assert_eq!(told(&[SECCOMP, user]), user);
        let squatter = Cause::AddressTaken { holder: 9 };
        assert_eq!(told(&[Cause::NotListening, squatter]), squatter);
    }

    #[test]
    fn what_is_about_this_process_ends_the_search() {
        for cause in [
            Cause::NoSuchProcess,
            Cause::TableFull,
            Cause::Interrupted,
            Cause::Kernel(libc::ENOMEM),
        ] {
            assert_eq!(weight(cause), FINAL);
            assert_eq!(told(&[SECCOMP, cause]), cause);
        }
    }

    #[test]
    fn of_equals_the_first_is_told() {
        let name = Cause::NotPermitted(Denial::Name);
        assert_eq!(told(&[PTRACE, name]), PTRACE);
    }
}
