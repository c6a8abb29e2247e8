//! The abstract addresses of an inbox, made of the pid namespace, the pid and the signal.
//!
//! | address | who is bound there |
//! |---|---|
//! | `sendfd/1/NAMESPACE/PID/SIG` | the listener of the `name` path |
//! | `sendfd/1/NAMESPACE/PID/SIG/uid/UID` | a listener for one more user that is accepted |
//! | `sendfd/1/NAMESPACE/PID/SIG/rx/RANDOM` | the receiving end of the inbox, to be recognised by |

use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use arrayvec::ArrayString;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, getpeername,
    getsockname, socket_with,
};

use crate::process;

/// 108 bytes is what a sockaddr_un holds; the longest name below needs 77.
type Name = ArrayString<107>;

/// Where a process listens for a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The inode of the pid namespace in which `pid` is counted: abstract addresses belong to
    /// network namespaces, and one of those may be shared by several pid namespaces.
    pub(crate) namespace: u64,
    pub(crate) pid: u32,
    pub(crate) sig: i32,
}

impl Address {
    /// This process's own.
    pub(crate) fn own(sig: i32) -> Self {
        Address {
            namespace: process::own_namespace(),
            pid: process::own_pid(),
            sig,
        }
    }

    fn base(&self) -> Name {
        let mut name = Name::new();
        // Cannot fail: the longest name fits.
        let _ = write!(
            name,
            "sendfd/1/{}/{}/{}",
            self.namespace, self.pid, self.sig
        );
        name
    }

    /// The address of the listener for the process's own user and root, or for one more user.
    pub(crate) fn listener(&self, uid: Option<u32>) -> Result<SocketAddrUnix, Errno> {
        let mut name = self.base();
        if let Some(uid) = uid {
            let _ = write!(name, "/uid/{uid}");
        }
        SocketAddrUnix::new_abstract_name(name.as_bytes())
    }

    /// Where the next version of this library would listen, so far as it keeps to this form.
    pub(crate) fn of_next_version(&self) -> Result<SocketAddrUnix, Errno> {
        let name = self.base();
        let rest = name.strip_prefix("sendfd/1/").unwrap_or_default();
        let mut name = Name::new();
        let _ = write!(name, "sendfd/2/{rest}");
        SocketAddrUnix::new_abstract_name(name.as_bytes())
    }

    /// An address for the receiving end. Random, so that nobody can sit on it beforehand.
    pub(crate) fn receiving_end(&self, random: u64) -> Result<SocketAddrUnix, Errno> {
        let mut name = self.base();
        let _ = write!(name, "/rx/{random:016x}");
        SocketAddrUnix::new_abstract_name(name.as_bytes())
    }

    /// Whether the other end of `socket` is the receiving end of an inbox for `sig`. Which process
    /// it belongs to is for SO_PEERCRED to say: that cannot be chosen, and it is told in the
    /// asking process's own pid namespace, where the name has the target's.
    pub(crate) fn is_inbox(socket: impl AsFd, sig: i32) -> bool {
        getpeername(socket).is_ok_and(|peer| peer.is_some_and(|peer| is_receiving_end(peer, sig)))
    }

    /// Whether `socket` itself is such a receiving end.
    pub(crate) fn is_own_inbox(socket: impl AsFd, sig: i32) -> bool {
        getsockname(socket).is_ok_and(|own| is_receiving_end(own, sig))
    }
}

fn is_receiving_end(address: SocketAddrAny, sig: i32) -> bool {
    let unix = SocketAddrUnix::try_from(address);
    unix.is_ok_and(|unix| unix.abstract_name().and_then(parse) == Some(sig))
}

/// The signal in the name of a receiving end.
fn parse(name: &[u8]) -> Option<i32> {
    let mut words = std::str::from_utf8(name)
        .ok()?
        .strip_prefix("sendfd/1/")?
        .split('/');
    let (_namespace, _pid) = (words.next()?, words.next()?);
    let sig = words.next()?.parse().ok()?;
    (words.next()? == "rx").then_some(sig)
}

/// A socket of the kind that all of this runs over: records, in order, connected.
pub(crate) fn socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(name: &[u8]) {
    assert!(parse(name).is_none() || name.starts_with(b"sendfd/1/"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_fits() {
        let address = Address {
            namespace: u64::MAX,
            pid: u32::MAX,
            sig: 64,
        };
        let listener = address.listener(Some(u32::MAX)).expect("fits");
        let name = listener.abstract_name().expect("is abstract");
        assert!(
            name.ends_with(b"/64/uid/4294967295"),
            "{}",
            name.escape_ascii()
        );
        let end = address.receiving_end(u64::MAX).expect("fits");
        let name = end.abstract_name().expect("is abstract");
        assert_eq!(parse(name), Some(64));
    }

    #[test]
    fn only_receiving_ends_parse() {
        assert_eq!(parse(b"sendfd/1/4026531836/17/40/rx/00"), Some(40));
        assert_eq!(parse(b"sendfd/1/4026531836/17/40"), None);
        assert_eq!(parse(b"sendfd/2/4026531836/17/40/rx/00"), None);
        assert_eq!(parse(b"\xff"), None);
    }
}
