//! Every kind of descriptor that is to be handed over, made by the driver of a test and inherited by
//! the processes that it starts, at numbers from [`FIRST`] on.

use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The number of the first passenger in the table of a peer.
pub const FIRST: RawFd = 100;

/// A descriptor that is to be sent.
pub struct Passenger {
    pub name: &'static str,
    pub fd: OwnedFd,
    /// Its number in the table of a peer.
    pub number: RawFd,
}

/// All of them. What has a state of its own (an offset, seals, a count) has one that is not the
/// default.
pub fn passengers() -> Vec<Passenger> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let connection = std::net::TcpStream::connect(address).expect("it listens");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (unix, _) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let (datagram, _) = std::os::unix::net::UnixDatagram::pair().expect("a pair");
    let unix_listener = {
        use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
        let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        // An address of no name, which the kernel chooses.
        bind(&socket, &rustix::net::SocketAddrUnix::new_unnamed()).expect("bound");
        listen(&socket, 1).expect("it listens");
        socket
    };
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let all: [(&'static str, OwnedFd); 24] = [
        ("tcp", connection.into()),
        ("tcp-listener", listener.into()),
        ("udp", udp.into()),
        ("unix-stream", unix.into()),
        ("unix-datagram", datagram.into()),
        ("unix-listener", unix_listener),
        ("pipe-read", reader.into()),
        ("pipe-write", writer.into()),
        ("file", file()),
        ("directory", path(libc::O_DIRECTORY | libc::O_RDONLY)),
        ("o-path", path(libc::O_PATH)),
        ("memfd", memfd()),
        // SAFETY: plain calls that make a descriptor, from here to the terminal.
        ("eventfd", made(unsafe { libc::eventfd(7, 0) })),
        ("epoll", made(unsafe { libc::epoll_create1(0) })),
        (
            "timerfd",
            made(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) }),
        ),
        ("signalfd", signalfd()),
        (
            "pidfd",
            made(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as i32 }),
        ),
        ("inotify", made(unsafe { libc::inotify_init1(0) })),
        ("dev-null", open(c"/dev/null", libc::O_RDWR)),
        (
            "pty",
            made(unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY) }),
        ),
        ("tty", tty()),
        (
            "netlink",
            made(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) }),
        ),
        ("namespace", open(c"/proc/self/ns/net", libc::O_RDONLY)),
        ("proc-file", open(c"/proc/self/status", libc::O_RDONLY)),
    ];
    all.into_iter()
        .zip(FIRST..)
        .map(|((name, fd), number)| Passenger {
            name,
            fd: moved_up(fd),
            number,
        })
        .collect()
}

/// An io_uring, where the kernel and the user's rights allow one: the kernel refuses to send it.
pub fn io_uring() -> Option<Passenger> {
    let mut parameters = [0_u8; 120];
    // SAFETY: struct io_uring_params is 120 bytes, all zero here.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    // SAFETY: new, and nobody else's.
    (fd >= 0).then(|| Passenger {
        name: "io_uring",
        fd: moved_up(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        number: FIRST + 50,
    })
}

/// Lets a process that `command` starts have `passengers` at their numbers.
pub fn inherit(command: &mut Command, passengers: &[Passenger]) {
    let pairs: Vec<(RawFd, RawFd)> = passengers
        .iter()
        .map(|passenger| (passenger.fd.as_raw_fd(), passenger.number))
        .collect();
    let place = move || {
        for (fd, number) in &pairs {
            // SAFETY: two numbers; the copy is without close-on-exec.
            if unsafe { libc::dup2(*fd, *number) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: dup2 is all it does, which is allowed between fork and exec.
    unsafe { command.pre_exec(place) };
}

/// Whether descriptor `number` of process `pid` is the same open file as `fd` of this process, as
/// kcmp(2) says; an error where that is not to be known.
pub fn is_same_file(fd: &OwnedFd, pid: i32, number: RawFd) -> std::io::Result<bool> {
    const KCMP_FILE: libc::c_int = 0;
    // SAFETY: numbers only.
    let answer = unsafe {
        let own = libc::getpid();
        libc::syscall(libc::SYS_kcmp, own, pid, KCMP_FILE, fd.as_raw_fd(), number)
    };
    match answer {
        0 => Ok(true),
        1.. => Ok(false),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The flags of descriptor `number` of process `pid`, as in open(2).
pub fn flags_of(pid: i32, number: RawFd) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    i32::from_str_radix(flags.trim(), 8).ok()
}

/// Out of the way of the numbers that are given to passengers.
fn moved_up(fd: OwnedFd) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(&fd, FIRST + 100).expect("room in the table")
}

fn made(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: new, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn open(path: &std::ffi::CStr, flags: i32) -> OwnedFd {
    // SAFETY: a C string.
    made(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })
}

fn path(flags: i32) -> OwnedFd {
    open(c"/", flags)
}

/// A file without a name, with an offset.
fn file() -> OwnedFd {
    let mut file = tempfile().expect("a file");
    file.write_all(b"a regular file").expect("written");
    file.seek(SeekFrom::Start(2)).expect("a file can be sought");
    file.into()
}

fn tempfile() -> std::io::Result<std::fs::File> {
    let path = std::env::temp_dir().join(format!("sendfd-passenger-{}", std::process::id()));
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn memfd() -> OwnedFd {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = memfd_create(c"sealed", flags).expect("a memfd");
    fcntl_add_seals(&memfd, SealFlags::SHRINK | SealFlags::GROW).expect("sealed");
    memfd
}

fn signalfd() -> OwnedFd {
    // SAFETY: sigemptyset initialises the set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGUSR1);
        made(libc::signalfd(-1, &set, 0))
    }
}

/// The terminal's side of a pseudoterminal, which does not become anybody's.
fn tty() -> OwnedFd {
    // SAFETY: the names are C strings; ptsname_r writes no more than it is given.
    unsafe {
        let pty = made(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY));
        assert_eq!(libc::grantpt(pty.as_raw_fd()), 0);
        assert_eq!(libc::unlockpt(pty.as_raw_fd()), 0);
        let mut name = [0; 64];
        assert_eq!(libc::ptsname_r(pty.as_raw_fd(), name.as_mut_ptr(), 64), 0);
        // Without its other side it would be hung up, but it stays what it is.
        made(libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY))
    }
}
