//! Peers of this crate.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use rustix::process::Resource;
use sendfd_core::{Paths, Port};
use sendfd_tests::{Peer, set_soft_limit, signal};

/// The paths that every kernel offers, and every receiver.
pub const PATHS: [&str; 2] = ["pidfd", "name"];

/// Whether this kernel has sendfd(2).
pub fn has_call() -> bool {
    Path::new("/proc/sys/kernel/pidfd_sendfd_nr").exists()
}

/// The paths to a target in signal mode: where the kernel has the call, that is all there is.
pub fn paths_to_signals() -> &'static [&'static str] {
    if has_call() { &["syscall"] } else { &PATHS }
}

/// How many descriptors a receiver owns.
pub const RECEIVER_COST: usize = 5;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_peer");

pub fn peer() -> Peer {
    Peer::start(Path::new(PROGRAM))
}

pub fn peer_as(uid: u32) -> Peer {
    Peer::start_as(Path::new(PROGRAM), uid)
}

/// A sender, and a target that listens: its pid and signal.
pub fn pair() -> (Peer, Peer, i32, i32) {
    let (sender, mut target) = (peer(), peer());
    let (pid, sig) = (target.pid(), signal(0));
    target.ok(format!("open sig={sig}"));
    (sender, target, pid, sig)
}

/// The port of [`pair`].
pub fn port() -> Port {
    Port::from_signal(signal(0)).expect("a port")
}

/// A path alone, by its name.
pub fn path(name: &str) -> Paths {
    let mut all = sendfd_core::Path::ALL.into_iter();
    all.find(|path| path.as_str() == name)
        .expect("a path")
        .into()
}

/// Runs `f` in a child, by fork(2) or by a clone(2) that runs no handlers, and waits for it.
pub fn in_child(raw: bool, f: impl FnOnce()) {
    let mut status = 0;
    // SAFETY: the child ends before anything of the parent's is dropped.
    unsafe {
        let child = if raw {
            libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as i32
        } else {
            libc::fork()
        };
        if child == 0 {
            let result = catch_unwind(AssertUnwindSafe(f));
            libc::_exit(i32::from(result.is_err()));
        }
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
    }
    assert_eq!(status, 0, "the child's part failed");
}

/// A forked process that does something by itself, with a line to the test. It is killed at the end.
pub struct Fork {
    pid: i32,
    line: UnixStream,
}

impl Fork {
    /// Runs `f` in the child, which ends with it.
    pub fn run(f: impl FnOnce(&mut Line)) -> Self {
        let (here, there) = UnixStream::pair().expect("a line");
        // SAFETY: the child ends before anything of the parent's is dropped.
        match unsafe { libc::fork() } {
            0 => {
                drop(here);
                let mut line = Line { line: there };
                line.die_with_tester();
                let result = catch_unwind(AssertUnwindSafe(|| f(&mut line)));
                // SAFETY: ends the child.
                unsafe { libc::_exit(i32::from(result.is_err())) }
            }
            pid => {
                assert!(pid > 0, "a child");
                here.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                Fork { pid, line: here }
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// The next number that it says, for which it has a minute.
    #[track_caller]
    pub fn hear(&mut self) -> i64 {
        let mut bytes = [0; 8];
        let heard = self.line.read_exact(&mut bytes);
        heard.expect("it says something within a minute");
        i64::from_ne_bytes(bytes)
    }

    /// The same, for who has something to put right before the test fails.
    pub fn hear_or_not(&mut self) -> Option<i64> {
        let mut bytes = [0; 8];
        self.line.read_exact(&mut bytes).ok()?;
        Some(i64::from_ne_bytes(bytes))
    }

    #[track_caller]
    pub fn say(&mut self, number: i64) {
        let said = self.line.write_all(&number.to_ne_bytes());
        said.expect("it listens");
    }

    /// Waits until it has ended by itself, for a minute at most: as it should have.
    #[track_caller]
    pub fn ends_well(mut self) {
        let end = self
            .line
            .read(&mut [0; 8])
            .expect("it ends within a minute");
        assert_eq!(end, 0, "it has said more");
        let mut status = 0;
        // SAFETY: our own child; a valid pointer.
        assert_eq!(
            unsafe { libc::waitpid(self.pid, &raw mut status, 0) },
            self.pid
        );
        self.pid = 0;
        assert_eq!(status, 0, "the child's part failed");
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        if self.pid > 0 {
            // SAFETY: our own child, which nobody has waited for.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
            self.pid = 0;
        }
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The child's end of the line of a [`Fork`].
pub struct Line {
    line: UnixStream,
}

impl Line {
    pub fn say(&mut self, number: i64) {
        let said = self.line.write_all(&number.to_ne_bytes());
        said.expect("the test listens");
    }

    pub fn hear(&mut self) -> i64 {
        let mut bytes = [0; 8];
        self.line.read_exact(&mut bytes).expect("the test goes on");
        i64::from_ne_bytes(bytes)
    }

    /// Becomes another user for good, into whom others of that user may reach.
    pub fn become_user(&self, uid: u32) {
        // SAFETY: plain calls, of the only thread.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_setgroups, 0, 0), 0);
            assert_eq!(libc::syscall(libc::SYS_setgid, uid), 0);
            assert_eq!(libc::syscall(libc::SYS_setuid, uid), 0);
            assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1), 0);
        }
        self.die_with_tester();
    }

    /// To be said again by who changes its user, and by its children.
    pub fn die_with_tester(&self) {
        // SAFETY: plain calls.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    }
}

/// Long enough for any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until it is so, for a minute at most.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sets the soft limit of descriptors of a process; 0 is this one.
pub fn limit_descriptors(pid: u32, count: u64) {
    set_soft_limit(pid as i32, Resource::Nofile, Some(count));
}

/// A socket that takes two minutes to close, for what it has sent is not read: and the end that does not
/// read, with which that is over.
pub fn lingering() -> (OwnedFd, OwnedFd) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let socket = std::net::TcpStream::connect(listener.local_addr().expect("its address"));
    let socket = socket.expect("connected");
    let (peer, _) = listener.accept().expect("a connection");
    socket.set_nonblocking(true).expect("set");
    while (&socket).write(&[0; 65_536]).is_ok() {}
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 120,
    };
    // SAFETY: a valid struct of the size that is said.
    let set = unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_LINGER);
        let size = size_of_val(&linger) as libc::socklen_t;
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const linger).cast(),
            size,
        )
    };
    assert_eq!(set, 0);
    (socket.into(), peer.into())
}

/// What the library's own address of a process at a signal is, with an ending.
pub fn address(pid: u32, sig: i32, ending: &str) -> SocketAddrUnix {
    let namespace = rustix::fs::stat("/proc/self/ns/pid").expect("/proc").st_ino;
    let name = format!("sendfd/1/{namespace}/{pid}/{sig}{ending}");
    SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("short")
}

pub fn socket() -> OwnedFd {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let flags = SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket")
}

/// A connection to a receiver that was made without the library.
pub fn connected(pid: u32, sig: i32, ending: &str) -> Result<OwnedFd, Errno> {
    let socket = socket();
    rustix::net::connect(&socket, &address(pid, sig, ending))?;
    Ok(socket)
}

/// The header of a message of so many descriptors, with a tag.
pub fn header(sig: i32, fds: u8, tag: u64) -> [u8; 24] {
    let mut header = [0; 24];
    header[..4].copy_from_slice(b"sfd\x01");
    header[4] = (sig - 32) as u8;
    header[6] = fds;
    header[16..].copy_from_slice(&tag.to_le_bytes());
    header
}

/// Sends a record without the library, and without waiting.
pub fn send_raw(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags).map(drop)
}

/// The errno of what failed, 0 of what did not.
pub fn errno<T>(result: sendfd_core::Result<T>) -> i32 {
    result.map_or_else(|error| error.raw_os_error(), |_| 0)
}
