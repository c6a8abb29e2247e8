//! What arrived: a listener or a connection, TCP or unix, a file or a pipe.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::net::sockopt;

use crate::error::{Attempt, Error, Result};

/// The kind of open file that a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A socket, with the numbers of `<sys/socket.h>`.
    Socket {
        /// `AF_INET`, `AF_UNIX`, ...
        family: i32,
        /// `SOCK_STREAM`, `SOCK_DGRAM`, ...
        kind: i32,
        /// `IPPROTO_TCP`, ...
        protocol: i32,
        /// Whether connections are to be accepted from it.
        listening: bool,
    },
    /// A regular file, a memfd among them.
    File,
    /// A directory.
    Directory,
    /// A pipe or FIFO.
    Pipe,
    /// A terminal or another character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// What has no type of file: an eventfd, a pidfd, an epoll instance, ...
    Anonymous,
}

/// Asks what `fd` refers to. Does not block and does not change it.
///
/// # Errors
/// - `EBADF`: it is not open.
///
/// # References
/// - [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html), `SO_DOMAIN`, `SO_TYPE`,
///   `SO_PROTOCOL`, `SO_ACCEPTCONN`
/// - [inode(7)](https://man7.org/linux/man-pages/man7/inode.7.html), "The file type and mode"
pub fn detect(fd: impl AsFd) -> Result<Kind> {
    ask(fd.as_fd()).map_err(|errno| Error::new(Attempt::Detect, errno.into()))
}

fn ask(fd: BorrowedFd<'_>) -> std::result::Result<Kind, Errno> {
    Ok(match FileType::from_raw_mode(fstat(fd)?.st_mode) {
        FileType::Socket => Kind::Socket {
            family: sockopt::socket_domain(fd)?.as_raw().into(),
            kind: sockopt::socket_type(fd)?.as_raw() as i32,
            protocol: sockopt::socket_protocol(fd)?
                .map_or(0, |protocol| protocol.as_raw().get() as i32),
            listening: sockopt::socket_acceptconn(fd)?,
        },
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Fifo => Kind::Pipe,
        FileType::CharacterDevice => Kind::CharacterDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        _ => Kind::Anonymous,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixStream;

    fn socket(fd: impl AsFd) -> (i32, i32, bool) {
        match detect(fd) {
            Ok(Kind::Socket {
                family,
                kind,
                listening,
                ..
            }) => (family, kind, listening),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kinds() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        assert_eq!(socket(&listener), (libc::AF_INET, libc::SOCK_STREAM, true));
        let datagrams = UdpSocket::bind("[::1]:0").expect("a socket");
        assert_eq!(
            socket(&datagrams),
            (libc::AF_INET6, libc::SOCK_DGRAM, false)
        );
        let (stream, _other) = UnixStream::pair().expect("a pair");
        assert_eq!(socket(&stream), (libc::AF_UNIX, libc::SOCK_STREAM, false));
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        assert_eq!(detect(&reader), Ok(Kind::Pipe));
        let null = std::fs::File::open("/dev/null").expect("a device");
        assert_eq!(detect(&null), Ok(Kind::CharacterDevice));
        let directory = std::fs::File::open("/").expect("a directory");
        assert_eq!(detect(&directory), Ok(Kind::Directory));
        let flags = rustix::event::EventfdFlags::CLOEXEC;
        let eventfd = rustix::event::eventfd(0, flags).expect("an eventfd");
        assert_eq!(detect(&eventfd), Ok(Kind::Anonymous));
    }
}
