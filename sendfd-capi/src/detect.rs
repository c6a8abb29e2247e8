//! What kind of file a descriptor refers to.

use std::ffi::c_int;

use sendfd_core::Kind;

use crate::boundary::status;
use crate::lent::{self, Growing, end_of};

/// A socket, listening or not: see sendfd_kind.
pub const SENDFD_KIND_SOCKET: u32 = 1;

/// A regular file, a memfd among them.
pub const SENDFD_KIND_FILE: u32 = 2;

/// A directory.
pub const SENDFD_KIND_DIRECTORY: u32 = 3;

/// A pipe or FIFO.
pub const SENDFD_KIND_PIPE: u32 = 4;

/// A terminal or another character device.
pub const SENDFD_KIND_CHARACTER_DEVICE: u32 = 5;

/// A block device.
pub const SENDFD_KIND_BLOCK_DEVICE: u32 = 6;

/// What has no type of file: an eventfd, a pidfd, an epoll instance, ...
pub const SENDFD_KIND_ANONYMOUS: u32 = 7;

/// What sendfd_detect found. Start from SENDFD_KIND_INIT.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct sendfd_kind {
    /// In: sizeof(sendfd_kind).
    pub size: u32,
    /// Out: SENDFD_KIND_*. A later release may know more of them.
    pub kind: u32,
    /// Out: of a socket, AF_INET, AF_UNIX, ...; else 0.
    pub family: i32,
    /// Out: of a socket, SOCK_STREAM, SOCK_DGRAM, ...; else 0.
    pub socket_type: i32,
    /// Out: of a socket, IPPROTO_TCP, ...; else 0.
    pub protocol: i32,
    /// Out: 1 if it is a socket that listens: accept connections from it. Else 0.
    pub listening: u32,
}

// SAFETY: it is repr(C), starts with its size, and consists of numbers.
unsafe impl Growing for sendfd_kind {
    const FIRST: usize = end_of!(sendfd_kind, listening: u32);
}

/// Says what fd refers to: a listener or a connection, TCP or unix, a file or a pipe. fd is only
/// borrowed and not changed. kind may be NULL; else it is the caller's, and filled on success.
///
/// Returns SENDFD_KIND_*, or
///   -EBADF   fd is not open
///   -EINVAL  the size of kind is wrong
///   -ENOTRECOVERABLE  a defect in this library
///
/// Does not block. Safe from any thread and in a forked child. Not for use in a signal handler.
///
/// See also: fstat(2), socket(7) "SO_DOMAIN", "SO_TYPE", "SO_PROTOCOL" and "SO_ACCEPTCONN".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfd_detect(fd: c_int, kind: *mut sendfd_kind) -> c_int {
    status(|| {
        let mut answer = sendfd_kind::default();
        if !kind.is_null() {
            // SAFETY: the header requires a struct that is as long as it says.
            answer = unsafe { lent::read(kind) }?;
        }
        let found = sendfd_core::detect(lent::descriptor(fd)?)?;
        answer = sendfd_kind {
            size: answer.size,
            kind: number(found),
            ..sendfd_kind::default()
        };
        if let Kind::Socket {
            family,
            kind,
            protocol,
            listening,
        } = found
        {
            (answer.family, answer.socket_type, answer.protocol) = (family, kind, protocol);
            answer.listening = listening.into();
        }
        if !kind.is_null() {
            // SAFETY: the copy was read from there, and the header requires that nobody else uses it meanwhile.
            unsafe { lent::write_back(&answer, kind) };
        }
        Ok(answer.kind as c_int)
    })
}

fn number(kind: Kind) -> u32 {
    match kind {
        Kind::Socket { .. } => SENDFD_KIND_SOCKET,
        Kind::File => SENDFD_KIND_FILE,
        Kind::Directory => SENDFD_KIND_DIRECTORY,
        Kind::Pipe => SENDFD_KIND_PIPE,
        Kind::CharacterDevice => SENDFD_KIND_CHARACTER_DEVICE,
        Kind::BlockDevice => SENDFD_KIND_BLOCK_DEVICE,
        _ => SENDFD_KIND_ANONYMOUS,
    }
}
