//! A listening socket of the pool.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketFlags, acceptfrom_with, getpeername, getsockname};
use tokio::io::unix::AsyncFd;

use super::config::ListenConfig;
use crate::address::Address;
use crate::exit::{Failure, Result};
use crate::sys;

#[derive(Debug)]
pub(crate) struct Listener {
    /// Where it is bound, with the port that the kernel chose.
    pub(crate) address: Address,
    /// The workers that serve it: all, where none are named.
    pub(crate) workers: Vec<String>,
    pub(crate) socket: OwnedFd,
}

/// A connection that was accepted and has no worker yet.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) listener: usize,
    peer: Option<SocketAddr>,
}

impl Connection {
    /// One that was accepted before.
    pub(crate) fn again(socket: OwnedFd, listener: usize) -> Self {
        let peer = getpeername(&socket).ok().flatten();
        Connection {
            peer: peer.and_then(|peer| SocketAddr::try_from(peer).ok()),
            socket,
            listener,
        }
    }

    /// By whom sticky clients are told apart.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip())
    }

    /// `listener=INDEX peer=ADDRESS`.
    pub(crate) fn words(&self) -> String {
        match self.peer {
            Some(peer) => format!("listener={} peer={peer}", self.listener),
            None => format!("listener={} peer=unix", self.listener),
        }
    }
}

impl Listener {
    pub(crate) fn bind(config: &ListenConfig) -> Result<Self> {
        Ok(Self::of(config.address.bind()?, config.workers.clone()))
    }

    /// A socket that listens already.
    pub(crate) fn of(socket: OwnedFd, workers: Vec<String>) -> Self {
        Listener {
            address: address(&socket),
            workers,
            socket,
        }
    }

    /// For accepting: to be called inside the runtime.
    pub(crate) fn polled(&self) -> Result<AsyncFd<OwnedFd>> {
        let failed =
            |error: io::Error| Failure::system(format!("cannot poll {}: {error}", self.address));
        let socket = self.socket.try_clone().map_err(failed)?;
        let flags = fcntl_getfl(&socket).map_err(|errno| failed(errno.into()))?;
        fcntl_setfl(&socket, flags | OFlags::NONBLOCK).map_err(|errno| failed(errno.into()))?;
        sys::polled(socket).map_err(failed)
    }
}

fn address(socket: &OwnedFd) -> Address {
    let Ok(name) = getsockname(socket) else {
        return Address::Abstract(String::new());
    };
    if let Ok(address) = SocketAddr::try_from(name.clone()) {
        return Address::Tcp(address);
    }
    let unix = SocketAddrUnix::try_from(name);
    match unix
        .as_ref()
        .map(|unix| (unix.path_bytes(), unix.abstract_name()))
    {
        Ok((_, Some(name))) => Address::Abstract(String::from_utf8_lossy(name).into_owned()),
        Ok((Some(path), _)) => Address::Unix(String::from_utf8_lossy(path).into_owned().into()),
        _ => Address::Abstract(String::new()),
    }
}

/// The next connection that waits, in blocking mode: what a worker does with it is its own business.
pub(crate) fn accept(socket: &OwnedFd, listener: usize) -> std::result::Result<Connection, Errno> {
    let (socket, peer) = acceptfrom_with(socket, SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok(Connection {
        socket,
        listener,
        peer,
    })
}
