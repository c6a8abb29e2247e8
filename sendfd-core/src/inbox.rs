//! What a listening process owns for each signal: all of it anonymous, close-on-exec, and gone with
//! the process.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, listen, socketpair, sockopt,
};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::address::{self, Address};
use crate::error::Cause;
use crate::{marker, process, sys};

/// The kernel caps this at net.core.somaxconn, 4096 by default.
const BACKLOG: i32 = i32::MAX;

#[derive(Debug)]
pub(crate) struct Inbox {
    /// What this process reads.
    pub(crate) rx: OwnedFd,
    /// What senders fetch. This process only keeps it.
    pub(crate) tx: OwnedFd,
    /// What tells senders where `tx` is.
    _marker: OwnedFd,
    /// Where senders connect that may not fetch `tx`: the process's own address, then one for each
    /// further user. None of them if the address is taken.
    pub(crate) listeners: Vec<OwnedFd>,
}

impl Inbox {
    pub(crate) fn open(sig: i32, uids: &[u32], queue_bytes: u32) -> Result<Self, Cause> {
        let address = Address::own(sig);
        // First, so that a second copy of this library in the process is found out before anything
        // is made.
        let listeners = open_listeners(&address, uids)?;
        let (rx, tx) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        sockopt::set_socket_passcred(&rx, true)?;
        if queue_bytes != 0 {
            set_queue(&tx, queue_bytes)?;
        }
        bind(&rx, &address.receiving_end(random()?)?)?;
        let marker = marker::create(sig, &tx)?;
        Ok(Inbox {
            rx,
            tx,
            _marker: marker,
            listeners,
        })
    }
}

/// Empty if somebody else sits on the address: such a process can still be reached by `pidfd`.
fn open_listeners(address: &Address, uids: &[u32]) -> Result<Vec<OwnedFd>, Cause> {
    let mut listeners = Vec::with_capacity(1 + uids.len());
    for uid in std::iter::once(None).chain(uids.iter().copied().map(Some)) {
        match open_listener(address, uid) {
            Ok(listener) => listeners.push(listener),
            Err(Errno::ADDRINUSE) if is_own(address, uid) => return Err(Cause::AlreadyListening),
            // Without the first, senders could not tell that the others are refused.
            Err(Errno::ADDRINUSE) if uid.is_none() => return Ok(Vec::new()),
            Err(Errno::ADDRINUSE) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(listeners)
}

fn open_listener(address: &Address, uid: Option<u32>) -> Result<OwnedFd, Errno> {
    let listener = address::socket(SocketFlags::NONBLOCK)?;
    // Inherited by the connections, and in force for what arrives before they are accepted.
    sockopt::set_socket_passcred(&listener, true)?;
    bind(&listener, &address.listener(uid)?)?;
    listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Whether it is this process itself that already listens there.
fn is_own(address: &Address, uid: Option<u32>) -> bool {
    let holder = || -> Result<u32, Errno> {
        let socket = address::socket(SocketFlags::NONBLOCK)?;
        connect(&socket, &address.listener(uid)?)?;
        Ok(sys::peer_credentials(socket.as_fd())?.pid)
    };
    holder() == Ok(process::own_pid())
}

/// How much the kernel lets senders queue, by its own count, in which a bare record takes some
/// hundred bytes more than its contents. The kernel doubles what it is asked for.
fn set_queue(tx: &OwnedFd, bytes: u32) -> Result<(), Errno> {
    let half = (bytes / 2) as usize;
    sockopt::set_socket_send_buffer_size(tx, half)?;
    if sockopt::socket_send_buffer_size(tx)? < half * 2 {
        // Above net.core.wmem_max, which root may pass. For others the maximum is what they get.
        let _ = sockopt::set_socket_send_buffer_size_force(tx, half);
    }
    Ok(())
}

fn random() -> Result<u64, Errno> {
    let mut bytes = [0_u8; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}
