//! Addresses to listen on: TCP, a path of the file system, an abstract name.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;

use crate::exit::{Failure, Result};

/// How many connections may wait in the kernel. net.core.somaxconn is the limit.
const BACKLOG: i32 = 4096;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Abstract(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if let Some(name) = text.strip_prefix("unix:@").or(text.strip_prefix('@')) {
            return Ok(Address::Abstract(name.to_owned()));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Address::Unix(path.into()));
        }
        if text.contains('/') {
            return Ok(Address::Unix(text.into()));
        }
        let unclear = || {
            format!(
                "{text:?} is no address: write HOST:PORT, [IPV6]:PORT, :PORT, a path with a slash, or @NAME"
            )
        };
        if let Some(port) = text.strip_prefix(':') {
            let port: u16 = port.parse().map_err(|_| unclear())?;
            return Ok(Address::Tcp((std::net::Ipv6Addr::UNSPECIFIED, port).into()));
        }
        let mut found = text.to_socket_addrs().map_err(|_| unclear())?;
        found.next().map(Address::Tcp).ok_or_else(unclear)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
            Address::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

impl Address {
    /// A listening socket, close-on-exec.
    pub(crate) fn bind(&self) -> Result<OwnedFd> {
        let bound = match self {
            Address::Tcp(address) => TcpListener::bind(address).map(OwnedFd::from),
            Address::Unix(path) => {
                remove_left_behind(path);
                UnixListener::bind(path).map(OwnedFd::from)
            }
            Address::Abstract(name) => UnixAddress::from_abstract_name(name)
                .and_then(|address| UnixListener::bind_addr(&address))
                .map(OwnedFd::from),
        };
        let listener = bound.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => " (another program listens there: stop it, or choose another)",
                io::ErrorKind::PermissionDenied => {
                    " (ports below 1024 need root or CAP_NET_BIND_SERVICE, a path needs a folder that may be written to)"
                }
                io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
                _ => "",
            };
            Failure::system(format!("cannot listen on {self}: {error}{hint}"))
        })?;
        // std asks for fewer.
        let _ = rustix::net::listen(listener.as_fd(), BACKLOG);
        Ok(listener)
    }
}

/// A path on which nobody listens any more would be in the way.
fn remove_left_behind(path: &PathBuf) {
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let is_dead = || {
        UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if is_socket && is_dead() {
        let _ = std::fs::remove_file(path);
    }
}
