//! The system calls that rustix does not have, or not in the shape that is needed here. The one
//! folder of this crate that may say `unsafe`.
#![allow(unsafe_code)]

mod fork;
mod lineage;
mod lock;
#[cfg(feature = "tokio")]
mod polled;
mod record;
mod signals;
mod transmit;

use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::path;
use rustix::process::Resource;

use crate::credentials::Credentials;

pub(crate) use fork::AtFork;
pub(crate) use lineage::{PerProcess, generation, own_pid};
pub(crate) use lock::{AfterFork, Event, Guard, Lock};
#[cfg(feature = "tokio")]
pub(crate) use polled::polled;
#[cfg(fuzzing)]
pub(crate) use record::fuzz as fuzz_control;
pub(crate) use record::{BATCH, ReceivedFds, Record, discard, receive, receive_many};
pub(crate) use signals::{
    Disposition, disposition, expect_fd, expect_no_fd, expects_fd, is_blocked, join, queue_to_self,
    with_signals_blocked,
};
pub(crate) use transmit::transmit;

/// errno of the call that just failed.
fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[inline]
fn check(answer: i64) -> Result<i64, Errno> {
    if answer < 0 {
        Err(last_errno())
    } else {
        Ok(answer)
    }
}

// ---------------------------------------------------------------- who is at the other end

/// Who made the other end of a socket pair, or listens where a socket is connected to.
///
/// rustix has this too, but with a pid that cannot be 0, which it is for a peer in a pid namespace
/// that cannot be seen from here.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SO_PEERCRED`
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> Result<Credentials, Errno> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    socket_option(socket, libc::SO_PEERCRED, &mut peer)?;
    Ok(Credentials {
        pid: peer.pid as u32,
        uid: peer.uid,
        gid: peer.gid,
    })
}

/// The process that listens where a socket is connected to, since Linux 6.5.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SO_PEERPIDFD`
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const SO_PEERPIDFD: i32 = 77;
    let mut number: RawFd = -1;
    socket_option(socket, SO_PEERPIDFD, &mut number)?;
    if number < 0 {
        return Err(Errno::NOPROTOOPT);
    }
    // SAFETY: the kernel just put it into our table for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What tells a socket from all others as long as the machine runs, or what became of its number: EBADF,
/// ENOTSOCK. Asks no file system, whatever the number is by now.
///
/// # References
/// - [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html); `SO_COOKIE`, since Linux 4.12
pub(crate) fn cookie(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut cookie = 0_u64;
    socket_option(socket, libc::SO_COOKIE, &mut cookie)?;
    Ok(cookie)
}

/// What kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    Net = 0xFF04,
    Pid = 0xFF05,
    User = 0xFF09,
}

/// A namespace of the process that a pidfd refers to: since Linux 6.11.
///
/// # References
/// - [ioctl_pidfd](https://man7.org/linux/man-pages/man2/PIDFD_GET_PID_NAMESPACE.2const.html)
pub(crate) fn namespace(pidfd: BorrowedFd<'_>, kind: Namespace) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes no pointer, and answers a new descriptor or -1.
    unsafe {
        let number = libc::ioctl(pidfd.as_raw_fd(), kind as _, 0);
        check(number.into())?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

fn socket_option<T: Copy>(socket: BorrowedFd<'_>, option: i32, value: &mut T) -> Result<(), Errno> {
    let mut len = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` has room for `len` bytes, and all callers' types are plain numbers.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            ptr::from_mut(value).cast(),
            &raw mut len,
        )
    };
    check(answer.into()).map(drop)
}

/// This process's real and saved user: those that kill(2) compares the sender's with.
pub(crate) fn own_users() -> [u32; 2] {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: three pointers to numbers that live longer than the call, which fails for bad pointers alone.
    unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) };
    [real, saved]
}

/// How many bytes wait in the queue that is sent to over a socket, by the kernel's count.
///
/// # References
/// - [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html); `SIOCOUTQ` in
///   [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html)
pub(crate) fn queued(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut bytes: i32 = 0;
    // SAFETY: the call writes one int, for which there is room.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) }.into())?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

// ---------------------------------------------------------------- this process's table

/// Puts `new` at the number of `old`, at once: there is no moment at which the number is free.
/// What was there is closed.
///
/// # References
/// - [dup3(2)](https://man7.org/linux/man-pages/man2/dup.2.html)
pub(crate) fn replace(old: BorrowedFd<'_>, new: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: touches no memory. Whoever owns the number goes on owning it, with another open file there.
    check(unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) }.into()).map(drop)
}

/// How many descriptors a process can have: another one, by its pid, or with 0 this one. `None` where
/// that is not told or not limited.
///
/// # References
/// - [prlimit(2)](https://man7.org/linux/man-pages/man2/prlimit.2.html)
pub(crate) fn descriptor_limit(pid: u32) -> Option<RawFd> {
    let mut limit = MaybeUninit::<libc::rlimit64>::uninit();
    // SAFETY: asks only; the call fills `limit` when it succeeds.
    let limit = unsafe {
        let answer = libc::prlimit64(
            pid as i32,
            libc::RLIMIT_NOFILE,
            ptr::null(),
            limit.as_mut_ptr(),
        );
        check(answer.into()).ok()?;
        limit.assume_init()
    };
    RawFd::try_from(limit.rlim_cur).ok()
}

/// A file in memory, close-on-exec and, where the kernel knows what that is, for ever not executable:
/// some machines allow no other (vm.memfd_noexec).
///
/// # References
/// - [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html), `MFD_NOEXEC_SEAL`
pub(crate) fn memfd(name: impl path::Arg + Copy, flags: MemfdFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | MemfdFlags::CLOEXEC;
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(Errno::INVAL) => memfd_create(name, flags),
        answer => answer,
    }
}

// ---------------------------------------------------------------- limits

/// What this process may have of `resource` now; `u64::MAX` is without a limit. None: a sandbox does
/// not let it ask.
///
/// # References
/// - [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html)
#[inline]
pub(crate) fn soft_limit(resource: Resource) -> Option<u64> {
    // SAFETY: zero is a value of both fields, and the number is one that the kernel knows.
    let mut limit: libc::rlimit = unsafe { mem::zeroed() };
    // SAFETY: a valid pointer.
    let answer = unsafe { libc::getrlimit(resource as u32 as _, &raw mut limit) };
    // As wide as an unsigned long.
    #[allow(clippy::useless_conversion)]
    (answer == 0).then_some(if limit.rlim_cur == libc::RLIM_INFINITY {
        u64::MAX
    } else {
        limit.rlim_cur.into()
    })
}

// ---------------------------------------------------------------- the clock

/// The monotonic clock as a whole number, which is compared for every message.
///
/// # References
/// - [clock_gettime(2)](https://man7.org/linux/man-pages/man2/clock_gettime.2.html)
#[inline]
pub(crate) fn nanoseconds() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The same clock as far as the kernel has counted it, some milliseconds coarse, without a system call.
#[inline]
pub(crate) fn tick() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid pointer; both clocks exist on every kernel that this library runs on.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

// ---------------------------------------------------------------- the system call

/// PIDFD_SENDFD_ASK
const ASK: u32 = 1;

/// pidfd_sendfd(2), by the number that this kernel advertises.
#[inline]
pub(crate) fn pidfd_sendfd(
    number: i64,
    pidfd: BorrowedFd<'_>,
    sig: i32,
    fd: BorrowedFd<'_>,
) -> Result<(), Errno> {
    // SAFETY: four numbers, which the kernel checks; none is a pointer.
    check(unsafe {
        libc::syscall(
            number as libc::c_long,
            pidfd.as_raw_fd(),
            sig,
            fd.as_raw_fd(),
            0_u32,
        )
    } as i64)
    .map(drop)
}

/// Asks whether it would be accepted, and sends nothing.
pub(crate) fn pidfd_may_sendfd(number: i64, pidfd: BorrowedFd<'_>, sig: i32) -> Result<(), Errno> {
    // SAFETY: four numbers, which the kernel checks; none is a pointer.
    check(unsafe { libc::syscall(number as libc::c_long, pidfd.as_raw_fd(), sig, -1, ASK) } as i64)
        .map(drop)
}

/// Closes a number in a forked child, which frees no memory: whoever owned it there is forgotten and does
/// not close it.
///
/// # References
/// - [close(2)](https://man7.org/linux/man-pages/man2/close.2.html)
pub(crate) fn close_forgotten(fd: RawFd) {
    // SAFETY: touches no memory. The OwnedFd of the number is forgotten by all callers, so that nothing
    // closes it a second time.
    unsafe { libc::close(fd) };
}

/// In a forked child: puts an epoll instance that is never ready at the number `old`, whatever was
/// there. Closed first, so that there is room for it; nobody else opens anything meanwhile.
pub(crate) fn replace_with_empty_set(old: RawFd) {
    // SAFETY: touches no memory. The number is open again before anybody else uses it: the child has one
    // thread. So whoever owns it goes on owning it, with another open file behind it.
    unsafe {
        libc::close(old);
        put_at(old, libc::epoll_create1(libc::EPOLL_CLOEXEC));
    }
}

/// The same with a socket that is connected to nobody.
pub(crate) fn replace_with_dead_socket(old: RawFd) {
    if old >= 0 {
        // SAFETY: as in `replace_with_empty_set`.
        unsafe {
            libc::close(old);
            let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            put_at(old, libc::socket(libc::AF_UNIX, kind, 0));
        }
    }
}

/// # Safety
/// Nobody else owns `new`, and whoever owns `old` expects another open file there.
unsafe fn put_at(old: RawFd, new: RawFd) {
    if new >= 0 && new != old {
        // SAFETY: as is required above; what `old` was is closed by dup3, and `new` here.
        unsafe {
            libc::dup3(new, old, libc::O_CLOEXEC);
            libc::close(new);
        }
    }
}

/// How many descriptors the calling thread's table has: since Linux 6.2 the size of its folder in
/// /proc. `None` where that is not told.
///
/// By path and not by a descriptor that is kept: it is right in a forked child, and in a thread whose
/// table is not that of the process's first thread.
///
/// # References
/// - [proc_pid_fd(5)](https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html)
pub(crate) fn open_descriptors() -> Option<u64> {
    let stat = rustix::fs::stat(c"/proc/thread-self/fd").ok()?;
    u64::try_from(stat.st_size).ok().filter(|count| *count > 0)
}

/// A duplicate of what has the number in this process's table, whoever that is.
pub(crate) fn duplicate(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: only asks the kernel about the number; what comes back is new and ours.
    unsafe {
        let new = libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0);
        check(new.into())?;
        Ok(OwnedFd::from_raw_fd(new))
    }
}
