//! Connecting to the inbox's abstract address.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SocketFlags, connect};

use crate::address::{self, Address};
use crate::error::{Cause, Denial};
use crate::process::{self, Process};
use crate::sys;

/// A connection to the inbox, of this sender alone.
#[derive(Debug)]
pub(crate) struct Link(pub(crate) OwnedFd);

/// Connects as the process's own user or root.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), "Abstract"
pub(crate) fn reach(process: &Process, sig: i32) -> Result<Link, Cause> {
    reach_as(process, sig, None)
}

/// Connects to the address for one more user that the target accepts.
pub(crate) fn reach_as(process: &Process, sig: i32, uid: Option<u32>) -> Result<Link, Cause> {
    let here = Address {
        namespace: process::own_namespace(),
        pid: process.pid(),
        sig,
    };
    let answer = connect_to(process, &here, uid);
    if let Err(Cause::NotListening) = answer
        // Most processes share a pid namespace; the others are known by another pid.
        && let Some((namespace, pid)) = process.in_inner_namespace()
    {
        return connect_to(
            process,
            &Address {
                namespace,
                pid,
                sig,
            },
            uid,
        );
    }
    answer
}

fn connect_to(process: &Process, address: &Address, uid: Option<u32>) -> Result<Link, Cause> {
    let socket = address::socket(SocketFlags::NONBLOCK)?;
    connect(&socket, &address.listener(uid)?).map_err(|errno| match errno {
        Errno::CONNREFUSED => Cause::NotListening,
        // Its queue of connections that it has not looked at yet.
        Errno::AGAIN => Cause::QueueFull,
        // A security module, such as Landlock with LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET.
        Errno::PERM | Errno::ACCESS => Cause::NotPermitted(Denial::Name),
        other => other.into(),
    })?;
    // Anyone may sit on a name. Nothing is sent before it is known who listens there.
    let holder = sys::peer_credentials(socket.as_fd())?.pid;
    if holder != process.pid() {
        return Err(Cause::AddressTaken { holder });
    }
    // A dead process's listener, kept open by a child of it, may bear the pid of a living one.
    // Kernels before 6.5 cannot tell.
    match sys::peer_pidfd(socket.as_fd()) {
        Ok(pidfd) if process::has_exited(pidfd.as_fd()) => Err(Cause::AddressTaken { holder: 0 }),
        Err(Errno::SRCH) => Err(Cause::AddressTaken { holder: 0 }),
        _ if process.has_exited() => Err(Cause::NoSuchProcess),
        _ => Ok(Link(socket)),
    }
}
