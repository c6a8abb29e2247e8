//! What a descriptor refers to.

use napi::Either;
use napi_derive::napi;
use rustix::fs::OFlags;
use sendfd_core::Kind;

use crate::Failure;
use crate::sys::borrow;

/// The answer of [`detect`].
#[napi(object, object_from_js = false)]
pub struct Detected {
    /// `socket`, `file`, ...
    pub r#type: &'static str,
    /// Of a socket: `IPv4`, `IPv6`, `unix` or the number.
    pub family: Option<Either<&'static str, i32>>,
    /// Of a socket: `stream`, `dgram`, `seqpacket` or the number.
    pub socket_type: Option<Either<&'static str, i32>>,
    /// Of a socket: the number.
    pub protocol: Option<i32>,
    /// Of a socket: whether connections are to be accepted from it.
    pub listening: Option<bool>,
    /// Whether it was opened for reading.
    pub readable: bool,
    /// Whether it was opened for writing.
    pub writable: bool,
}

/// Asks what `fd` refers to.
#[napi]
pub fn detect(fd: i32) -> Either<Detected, Failure> {
    let kind = match sendfd_core::detect(borrow(fd)) {
        Ok(kind) => kind,
        Err(error) => return Either::B(error.into()),
    };
    // EBADF was answered above.
    let mode = rustix::fs::fcntl_getfl(borrow(fd)).unwrap_or(OFlags::empty()) & OFlags::ACCMODE;
    let mut detected = Detected {
        r#type: match kind {
            Kind::Socket { .. } => "socket",
            Kind::File => "file",
            Kind::Directory => "directory",
            Kind::Pipe => "pipe",
            Kind::CharacterDevice => "character-device",
            Kind::BlockDevice => "block-device",
            _ => "anonymous",
        },
        family: None,
        socket_type: None,
        protocol: None,
        listening: None,
        readable: mode == OFlags::RDONLY || mode == OFlags::RDWR,
        writable: mode == OFlags::WRONLY || mode == OFlags::RDWR,
    };
    if let Kind::Socket {
        family,
        kind,
        protocol,
        listening,
    } = kind
    {
        detected.family = Some(match family {
            libc::AF_INET => Either::A("IPv4"),
            libc::AF_INET6 => Either::A("IPv6"),
            libc::AF_UNIX => Either::A("unix"),
            other => Either::B(other),
        });
        detected.socket_type = Some(match kind {
            libc::SOCK_STREAM => Either::A("stream"),
            libc::SOCK_DGRAM => Either::A("dgram"),
            libc::SOCK_SEQPACKET => Either::A("seqpacket"),
            other => Either::B(other),
        });
        detected.protocol = Some(protocol);
        detected.listening = Some(listening);
    }
    Either::A(detected)
}
