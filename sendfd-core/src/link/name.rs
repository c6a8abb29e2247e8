//! Connecting to the inbox's abstract address.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, connect, shutdown};

use super::Socket;
use crate::address::{self, Address};
use crate::error::{Cause, Denial};
use crate::process::{self, Seen};
use crate::sys::{self, Namespace};

/// Connects as the process's own user or root.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), "Abstract"
pub(crate) fn reach(process: &Seen<'_>, sig: i32) -> Result<Socket, Cause> {
    reach_as(process, sig, None)
}

/// Connects to the address for one more user that the target accepts.
pub(crate) fn reach_as(process: &Seen<'_>, sig: i32, uid: Option<u32>) -> Result<Socket, Cause> {
    let here = Address {
        namespace: process::own_namespace(),
        pid: process.pid(),
        sig,
    };
    let mut answer = connect_to(process, &here, uid);
    if answer.as_ref().err() == Some(&Cause::NotListening) {
        // Most processes share a pid namespace; the others are known by another pid.
        if let Some((namespace, pid)) = process.in_inner_namespace() {
            let there = Address {
                namespace,
                pid,
                sig,
            };
            answer = connect_to(process, &there, uid);
        }
    }
    if answer.as_ref().err() == Some(&Cause::NotListening) && uid.is_none() {
        if is_in_other_network(process) {
            return Err(Cause::OtherNetwork);
        }
        if has_later_address(&here) {
            return Err(Cause::LaterVersion);
        }
    }
    answer
}

fn connect_to(process: &Seen<'_>, address: &Address, uid: Option<u32>) -> Result<Socket, Cause> {
    let socket = address::socket(SocketFlags::NONBLOCK)?;
    // Nothing is received over this socket. If it were open for reading, a target could send descriptors
    // here that are closed with it, and closing some takes as long as the target likes.
    shutdown(&socket, Shutdown::Read)?;
    connect(&socket, &address.listener(uid)?).map_err(|errno| match errno {
        Errno::CONNREFUSED => Cause::NotListening,
        // Its queue of connections that it has not looked at yet.
        Errno::AGAIN => Cause::QueueFull,
        // A security module, such as Landlock with LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET.
        Errno::PERM | Errno::ACCESS => Cause::NotPermitted(Denial::Name),
        other => other.into(),
    })?;
    // Anyone may bind the address. Nothing is sent before it is known who listens there.
    let holder = sys::peer_credentials(socket.as_fd())?;
    if holder.pid != process.pid() {
        return Err(Cause::AddressTaken { holder: holder.pid });
    }
    if !process.may_have_made(holder.uid) {
        return Err(Cause::NotListening);
    }
    // A dead process's listener, kept open by a child of it, may bear the pid of a living one.
    // Kernels before 6.5 cannot tell.
    match sys::peer_pidfd(socket.as_fd()) {
        Ok(pidfd) if process::has_exited(pidfd.as_fd()) => Err(Cause::AddressTaken { holder: 0 }),
        Err(Errno::SRCH) => Err(Cause::AddressTaken { holder: 0 }),
        _ if process.has_exited() => Err(Cause::NoSuchProcess),
        _ => Ok(Socket::new(socket)),
    }
}

/// Abstract addresses belong to a network namespace.
fn is_in_other_network(process: &Seen<'_>) -> bool {
    let own = rustix::fs::stat(c"/proc/self/ns/net").map(|stat| stat.st_ino);
    match (own, process.namespace(Namespace::Net)) {
        (Ok(own), Some(other)) => own != other,
        _ => false,
    }
}

/// Whether a later version of this library listens there.
fn has_later_address(address: &Address) -> bool {
    let connected = || -> Result<(), Errno> {
        let socket = address::socket(SocketFlags::NONBLOCK)?;
        shutdown(&socket, Shutdown::Read)?;
        connect(&socket, &address.of_next_version()?)
    };
    connected().is_ok()
}
